// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "muster/models/unet2d.h"

namespace muster::models {
namespace {

using formats::JsonKind;
using formats::JsonValue;

// Far above any model, low enough that no product overflows and no structure exhausts memory.
constexpr std::int64_t kMostBlocks = 16;
constexpr std::int64_t kMostLayers = 256;
constexpr std::int64_t kMostWidth = 1 << 16;
constexpr std::int64_t kMostSize = 1 << 14;

constexpr std::string_view kDown = "DownBlock2D", kCrossDown = "CrossAttnDownBlock2D";
constexpr std::string_view kUp = "UpBlock2D", kCrossUp = "CrossAttnUpBlock2D";

std::optional<JsonValue> present(const JsonValue& config, std::string_view key) {
  auto value = config.find(key);
  return value && !value->is_null() ? value : std::nullopt;
}

std::int64_t size_of(const JsonValue& value, std::int64_t most) {
  const auto size = value.as<std::int64_t>();
  if (size < 1 || size > most) value.fail(fmt::format("is {}, expected 1 to {}", size, most));
  return size;
}

std::int64_t read_size(const JsonValue& config, std::string_view key, std::int64_t fallback,
                       std::int64_t most) {
  const auto value = present(config, key);
  return value ? size_of(*value, most) : fallback;
}

// One size for each block: a list, or one for all.
std::vector<std::int64_t> read_sizes(const JsonValue& config, std::string_view key, std::int64_t fallback,
                                     std::size_t blocks, std::int64_t most) {
  const auto value = present(config, key);
  if (!value) return std::vector<std::int64_t>(blocks, fallback);
  if (value->kind() != JsonKind::kArray) return std::vector<std::int64_t>(blocks, size_of(*value, most));
  std::vector<std::int64_t> sizes;
  for (const JsonValue& element : value->elements()) {
    if (element.kind() == JsonKind::kArray)
      element.fail("is a list of its own; a block's layers all alike are supported alone");
    sizes.push_back(size_of(element, most));
  }
  if (sizes.size() != blocks)
    value->fail(fmt::format("has {} entries, block_out_channels has {}", sizes.size(), blocks));
  return sizes;
}

// Every key here makes another model of it unless it is absent, null or has the value that means "without".
void refuse_other_models(const JsonValue& config) {
  for (const char* key :
       {"class_embed_type", "num_class_embeds", "encoder_hid_dim", "encoder_hid_dim_type",
        "time_cond_proj_dim", "time_embedding_act_fn", "timestep_post_act", "cross_attention_norm",
        "reverse_transformer_layers_per_block", "quantization_config"})
    if (const auto value = present(config, key)) value->fail("is set, which is not supported");
  for (const char* key : {"center_input_sample", "dual_cross_attention", "resnet_skip_time_act",
                          "class_embeddings_concat", "mid_block_only_cross_attention"})
    if (const auto value = present(config, key); value && value->as<bool>())
      value->fail("is true, which is not supported");
  for (const auto& [key, usual] :
       {std::pair{"resnet_time_scale_shift", "default"}, std::pair{"time_embedding_type", "positional"},
        std::pair{"attention_type", "default"}})
    if (const auto value = present(config, key); value && value->as<std::string>() != usual)
      value->fail(fmt::format("is '{}'; only '{}' is supported", value->view(), usual));
  for (const auto& [key, usual] :
       {std::pair{"downsample_padding", 1.0}, std::pair{"mid_block_scale_factor", 1.0},
        std::pair{"resnet_out_scale_factor", 1.0}, std::pair{"conv_in_kernel", 3.0},
        std::pair{"conv_out_kernel", 3.0}})
    if (const auto value = present(config, key); value && value->as<double>() != usual)
      value->fail(fmt::format("is {}; only {} is supported", value->as<double>(), usual));
  const auto activation = config.get_or<std::string>("act_fn", "silu");
  if (activation != "silu" && activation != "swish")
    config.at("act_fn").fail(fmt::format("is '{}'; only 'silu' is supported", activation));
}

void refuse_only_cross_attention(const JsonValue& config) {
  const auto value = present(config, "only_cross_attention");
  if (!value) return;
  const auto refuse = [](const JsonValue& flag) {
    if (flag.as<bool>()) flag.fail("is true, which is not supported");
  };
  if (value->kind() != JsonKind::kArray) return refuse(*value);
  for (const JsonValue& element : value->elements()) refuse(element);
}

// Which blocks attend to the text; the way up must mirror the way down.
std::vector<bool> read_block_types(const JsonValue& config, std::size_t blocks) {
  std::vector<bool> attends(blocks);
  const auto read = [&](std::string_view key, std::string_view plain, std::string_view cross,
                        const auto& take) {
    const auto value = present(config, key);
    if (!value) config.fail(fmt::format("has no '{}'", key));
    if (value->size() != blocks)
      value->fail(fmt::format("has {} entries, block_out_channels has {}", value->size(), blocks));
    for (std::size_t i = 0; i < blocks; ++i) {
      const JsonValue element = value->element(i);
      const auto name = element.as<std::string>();
      if (name != plain && name != cross)
        element.fail(fmt::format("is '{}'; known: {}, {}", name, plain, cross));
      take(element, i, name == cross);
    }
  };
  read("down_block_types", kDown, kCrossDown,
       [&](const JsonValue&, std::size_t i, bool cross) { attends[i] = cross; });
  read("up_block_types", kUp, kCrossUp, [&](const JsonValue& element, std::size_t i, bool cross) {
    if (attends[blocks - 1 - i] != cross)
      element.fail(fmt::format("does not mirror down_block_types[{}]", blocks - 1 - i));
  });
  return attends;
}

std::int64_t read_mid_transformers(const JsonValue& config, std::int64_t layers) {
  const auto value = config.find("mid_block_type");
  if (!value) return layers;
  if (value->is_null()) return 0;
  if (value->as<std::string>() != "UNetMidBlock2DCrossAttn")
    value->fail(fmt::format("is '{}'; only 'UNetMidBlock2DCrossAttn' is supported", value->view()));
  return layers;
}

// attention_head_dim has always been the number of heads; num_attention_heads, where it is given, says so.
std::vector<std::int64_t> read_heads(const JsonValue& config, const std::vector<std::int64_t>& channels) {
  const char* key = present(config, "num_attention_heads") ? "num_attention_heads" : "attention_head_dim";
  const auto heads = read_sizes(config, key, 8, channels.size(), kMostWidth);
  for (std::size_t i = 0; i < heads.size(); ++i)
    if (channels[i] % heads[i] != 0)
      config.fail(fmt::format("{} {} does not divide block_out_channels {}", key, heads[i], channels[i]));
  return heads;
}

std::int64_t read_cross_width(const JsonValue& config, std::size_t blocks) {
  const auto widths = read_sizes(config, "cross_attention_dim", 1280, blocks, kMostWidth);
  if (std::any_of(widths.begin(), widths.end(), [&](std::int64_t width) { return width != widths.front(); }))
    config.at("cross_attention_dim").fail("differs between blocks, which is not supported");
  return widths.front();
}

void read_added(const JsonValue& config, UNet2DConfig& unet) {
  const auto type = present(config, "addition_embed_type");
  if (!type) return;
  if (type->as<std::string>() != "text_time")
    type->fail(fmt::format("is '{}'; only 'text_time' is supported", type->view()));
  unet.time_ids_width = size_of(config.at("addition_time_embed_dim"), kMostWidth);
  unet.added_projection_width = size_of(config.at("projection_class_embeddings_input_dim"), kMostWidth);
}

// A number, or [height, width], of which the larger counts.
std::int64_t read_sample_size(const JsonValue& config, std::int64_t fallback) {
  const auto value = present(config, "sample_size");
  if (!value) return fallback;
  if (value->kind() != JsonKind::kArray) return size_of(*value, kMostSize);
  std::int64_t most = 1;
  for (const JsonValue& element : value->elements()) most = std::max(most, size_of(element, kMostSize));
  return most;
}

void check_groups(const JsonValue& config, const UNet2DConfig& unet) {
  for (const std::int64_t channels : unet.channels)
    if (channels % unet.norm_groups != 0)
      config.fail(fmt::format("norm_num_groups {} does not divide block_out_channels {}", unet.norm_groups,
                              channels));
}

}  // namespace

UNet2DConfig UNet2DConfig::read(const JsonValue& config) {
  refuse_other_models(config);
  refuse_only_cross_attention(config);
  UNet2DConfig unet;
  unet.in_channels = read_size(config, "in_channels", unet.in_channels, kMostWidth);
  unet.out_channels = read_size(config, "out_channels", unet.out_channels, kMostWidth);
  unet.sample_size = read_sample_size(config, unet.sample_size);
  if (const auto channels = present(config, "block_out_channels")) {
    unet.channels.clear();
    for (const JsonValue& element : channels->elements())
      unet.channels.push_back(size_of(element, kMostWidth));
    if (unet.channels.empty() || unet.channels.size() > kMostBlocks)
      channels->fail(fmt::format("has {} entries, expected 1 to {}", unet.channels.size(), kMostBlocks));
  }
  const std::size_t blocks = unet.channels.size();
  unet.layers = read_sizes(config, "layers_per_block", 2, blocks, kMostLayers);
  unet.transformers = read_sizes(config, "transformer_layers_per_block", 1, blocks, kMostLayers);
  unet.mid_transformers = read_mid_transformers(config, unet.transformers.back());
  const std::vector<bool> attends = read_block_types(config, blocks);
  for (std::size_t i = 0; i < blocks; ++i)
    if (!attends[i]) unet.transformers[i] = 0;
  unet.heads = read_heads(config, unet.channels);
  unet.cross_width = read_cross_width(config, blocks);
  unet.norm_groups = read_size(config, "norm_num_groups", unet.norm_groups, kMostWidth);
  if (const auto groups = config.find("norm_num_groups"); groups && groups->is_null())
    groups->fail("is null: a model without norms is not supported");
  check_groups(config, unet);
  unet.norm_epsilon = config.get_or<double>("norm_eps", unet.norm_epsilon);
  if (!(unet.norm_epsilon > 0)) config.at("norm_eps").fail("must be above 0");
  unet.linear_projection = config.get_or<bool>("use_linear_projection", false);
  unet.flip_sin_to_cos = config.get_or<bool>("flip_sin_to_cos", true);
  unet.frequency_shift = config.get_or<double>("freq_shift", 0);
  if (const auto width = present(config, "time_embedding_dim");
      width && width->as<std::int64_t>() != unet.time_width())
    width->fail(fmt::format("is {}; only four times the first of block_out_channels, {}, is supported",
                            width->as<std::int64_t>(), unet.time_width()));
  read_added(config, unet);
  return unet;
}

}  // namespace muster::models
