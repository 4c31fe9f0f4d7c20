// SPDX-License-Identifier: Apache-2.0
#include "models/config_reader.h"

#include <fmt/format.h>

namespace muster::models {
namespace {

// Far above any model, low enough that no product of two overflows and no structure exhausts memory.
constexpr std::int64_t kMostLayers = 1024;
constexpr std::int64_t kMostWidth = 1 << 20;
constexpr std::int64_t kMostRows = 1 << 26;

void refuse_other_models(const formats::JsonValue& config) {
  for (const char* flag : {"is_decoder", "add_cross_attention", "is_encoder_decoder"})
    if (config.get_or<bool>(flag, false))
      config.at(flag).fail("is true, but a text encoder attends to all its tokens");
  const auto position = config.find("position_embedding_type");
  if (position && !position->is_null() && position->as<std::string>() != "absolute")
    position->fail(fmt::format("is '{}'; only 'absolute' is supported", position->view()));
  const auto pruned = config.find("pruned_heads");
  if (pruned && !pruned->is_null() && pruned->size() > 0)
    pruned->fail("lists pruned heads, which are not supported");
  const auto quantized = config.find("quantization_config");
  if (quantized && !quantized->is_null())
    quantized->fail("is set, but quantized checkpoints are not supported; use the original weights");
}

double read_probability(const formats::JsonValue& config, const char* key, double fallback) {
  const double value = config.get_or<double>(key, fallback);
  if (!(value >= 0 && value < 1)) config.at(key).fail(fmt::format("is {}, expected 0 to below 1", value));
  return value;
}

}  // namespace

nn::Extent read_size(const formats::JsonValue& config, const char* key, std::int64_t most) {
  const auto value = config.at(key);
  const auto size = value.as<std::int64_t>();
  if (size < 1 || size > most) value.fail(fmt::format("is {}, expected 1 to {}", size, most));
  return {size, key};
}

nn::Extent read_vocab_size(const formats::JsonValue& config) {
  return read_size(config, "vocab_size", kMostRows);
}

nn::Extent read_position_rows(const formats::JsonValue& config) {
  return read_size(config, "max_position_embeddings", kMostWidth);
}

nn::PostNormConfig read_blocks(const formats::JsonValue& config, const BlockKeys& keys) {
  refuse_other_models(config);
  nn::PostNormConfig blocks;
  blocks.layers = read_size(config, keys.layers, kMostLayers).size;
  blocks.hidden = read_size(config, keys.hidden, kMostWidth);
  blocks.intermediate = read_size(config, keys.intermediate, kMostWidth);
  blocks.heads = read_size(config, keys.heads, kMostWidth).size;
  if (blocks.hidden.size % blocks.heads != 0)
    config.at(keys.heads)
        .fail(
            fmt::format("is {}, which does not divide {}={}", blocks.heads, keys.hidden, blocks.hidden.size));
  blocks.layer_norm_epsilon = config.get_or<double>("layer_norm_eps", blocks.layer_norm_epsilon);
  if (!(blocks.layer_norm_epsilon > 0)) config.at("layer_norm_eps").fail("must be above 0");
  const auto name = config.get_or<std::string>(keys.activation, "gelu");
  const auto activation = nn::activation_from_hidden_act(name);
  if (!activation)
    config.at(keys.activation)
        .fail(fmt::format("is '{}'; known: gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu, silu, tanh",
                          name));
  blocks.activation = *activation;
  return blocks;
}

DropoutRates read_dropouts(const formats::JsonValue& config, const DropoutKeys& keys) {
  constexpr double kUsual = 0.1;
  const double hidden = read_probability(config, keys.hidden, kUsual);
  return {
      .embeddings = hidden,
      .blocks = {.attention = read_probability(config, keys.attention, kUsual),
                 .attention_output = hidden,
                 .output = hidden},
      .head_output = read_probability(config, keys.classifier, keys.classifier_fallback.value_or(hidden))};
}

}  // namespace muster::models
