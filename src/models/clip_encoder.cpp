// SPDX-License-Identifier: Apache-2.0
#include "models/clip_encoder.h"

#include <fmt/format.h>

#include "muster/core/strings.h"

namespace muster::models {
namespace {

constexpr std::int64_t kMostLayers = 1024;

nn::Extent hidden_of(const ClipEncoderConfig& config) {
  return {config.hidden, "hidden_size"};
}
nn::Extent intermediate_of(const ClipEncoderConfig& config) {
  return {config.intermediate, "intermediate_size"};
}

nn::Activation read_activation(const formats::JsonValue& config, nn::Activation usual) {
  const auto value = config.find("hidden_act");
  if (!value || value->is_null()) return usual;
  const auto activation = nn::activation_from_hidden_act(value->view());
  if (!activation)
    value->fail(fmt::format("is '{}'; known: quick_gelu, gelu, gelu_new, gelu_pytorch_tanh, relu, silu, tanh",
                            core::printable(value->view())));
  return *activation;
}

}  // namespace

std::int64_t read_clip_size(const formats::JsonValue& config, const char* key, std::int64_t usual,
                            std::int64_t most) {
  const auto size = config.get_or<std::int64_t>(key, usual);
  if (size < 1 || size > most) config.at(key).fail(fmt::format("is {}, expected 1 to {}", size, most));
  return size;
}

ClipEncoderConfig ClipEncoderConfig::read(const formats::JsonValue& config, const ClipEncoderConfig& usual) {
  const auto quantized = config.find("quantization_config");
  if (quantized && !quantized->is_null())
    quantized->fail("is set, but quantized checkpoints are not supported; use the original weights");
  ClipEncoderConfig out = usual;
  out.hidden = read_clip_size(config, "hidden_size", usual.hidden, kMostClipWidth);
  out.intermediate = read_clip_size(config, "intermediate_size", usual.intermediate, 4 * kMostClipWidth);
  out.layers = read_clip_size(config, "num_hidden_layers", usual.layers, kMostLayers);
  out.heads = read_clip_size(config, "num_attention_heads", usual.heads, kMostClipWidth);
  if (out.hidden % out.heads != 0)
    config.at(config.has("hidden_size") ? "hidden_size" : "num_attention_heads")
        .fail(fmt::format("makes a width of {}, which {} heads (num_attention_heads) do not divide",
                          out.hidden, out.heads));
  out.activation = read_activation(config, usual.activation);
  out.epsilon = config.get_or<double>("layer_norm_eps", usual.epsilon);
  if (!(out.epsilon > 0)) config.at("layer_norm_eps").fail("must be above 0");
  return out;
}

double ClipEncoderConfig::flops(std::int64_t tokens) const {
  const auto width = static_cast<double>(hidden), n = static_cast<double>(tokens);
  const double products = n * (4 * width * width + 2 * width * static_cast<double>(intermediate));
  const double attention = 2 * n * n * width;
  return 2 * static_cast<double>(layers) * (products + attention);
}

ClipBlock::ClipBlock(const ClipEncoderConfig& config)
    : heads_(config.heads),
      mask_(config.mask),
      q_proj_(hidden_of(config), hidden_of(config)),
      k_proj_(hidden_of(config), hidden_of(config)),
      v_proj_(hidden_of(config), hidden_of(config)),
      out_proj_(hidden_of(config), hidden_of(config)),
      layer_norm1_(hidden_of(config), config.epsilon),
      fc1_(hidden_of(config), intermediate_of(config), config.activation),
      fc2_(intermediate_of(config), hidden_of(config)),
      layer_norm2_(hidden_of(config), config.epsilon) {
  add_child("self_attn.q_proj", q_proj_);
  add_child("self_attn.k_proj", k_proj_);
  add_child("self_attn.v_proj", v_proj_);
  add_child("self_attn.out_proj", out_proj_);
  add_child("layer_norm1", layer_norm1_);
  add_child("mlp.fc1", fc1_);
  add_child("mlp.fc2", fc2_);
  add_child("layer_norm2", layer_norm2_);
}

at::Tensor ClipBlock::forward(const at::Tensor& x) const {
  const at::Tensor normed = layer_norm1_.apply(x);
  const at::Tensor context =
      nn::attend_all(q_proj_.apply(normed), k_proj_.apply(normed), v_proj_.apply(normed), heads_, mask_);
  const at::Tensor attended = out_proj_.apply(context, x);
  return fc2_.apply(fc1_.apply(layer_norm2_.apply(attended)), attended);
}

ClipEncoder::ClipEncoder(const ClipEncoderConfig& config) {
  for (std::int64_t i = 0; i < config.layers; ++i)
    add_child(fmt::format("layers.{}", i), layers_.emplace_back(config));
}

ClipEncoder::Output ClipEncoder::forward(const at::Tensor& x) const {
  Output out{x, x};
  for (const ClipBlock& layer : layers_) {
    out.penultimate = out.last;
    out.last = layer.forward(out.last);
  }
  return out;
}

}  // namespace muster::models
