// SPDX-License-Identifier: Apache-2.0
// config.json of an AutoencoderKL, and what its sizes cost.
#include <fmt/format.h>

#include <algorithm>

#include "models/image_blocks.h"
#include "muster/core/strings.h"
#include "muster/models/autoencoder_kl.h"

namespace muster::models {
namespace {

// Far above any model, low enough that no product of two overflows and no structure exhausts memory.
constexpr std::int64_t kMostLevels = 12;
constexpr std::int64_t kMostLayers = 256;
constexpr std::int64_t kMostChannels = 1 << 16;
constexpr std::int64_t kMostPixels = 1 << 20;

void check_range(const formats::JsonValue& value, std::int64_t size, std::int64_t most) {
  if (size < 1 || size > most) value.fail(fmt::format("is {}, expected 1 to {}", size, most));
}

/// A size that has a default where the file does not say it.
void read(const formats::JsonValue& config, const char* key, std::int64_t& size, std::int64_t most) {
  size = config.get_or<std::int64_t>(key, size);
  if (const auto value = config.find(key)) check_range(*value, size, most);
}

std::vector<std::int64_t> read_channels(const formats::JsonValue& config, std::int64_t groups) {
  const auto list = config.at("block_out_channels");
  check_range(list, static_cast<std::int64_t>(list.size()), kMostLevels);
  std::vector<std::int64_t> out;
  for (const auto& value : list.elements()) {
    out.push_back(value.as<std::int64_t>());
    check_range(value, out.back(), kMostChannels);
    if (out.back() % groups != 0)
      value.fail(fmt::format("is {}, which norm_num_groups={} does not divide", out.back(), groups));
  }
  return out;
}

void expect_blocks(const formats::JsonValue& config, const char* key, std::string_view type,
                   std::size_t levels) {
  const auto list = config.find(key);
  if (!list || list->is_null()) return;
  if (list->size() != levels)
    list->fail(fmt::format("has {} entries, but block_out_channels has {}", list->size(), levels));
  for (const auto& value : list->elements())
    if (value.as<std::string>() != type)
      value.fail(fmt::format("is '{}'; known: {}", core::printable(value.view()), type));
}

void refuse_other_models(const formats::JsonValue& config) {
  const auto activation = config.get_or<std::string>("act_fn", "silu");
  if (activation != "silu" && activation != "swish")
    config.at("act_fn").fail(fmt::format("is '{}'; known: silu", core::printable(activation)));
  if (const auto value = config.find("quantization_config"); value && !value->is_null())
    value->fail("is set, but quantized checkpoints are not supported; use the original weights");
}

// sample_size may be [height, width].
std::int64_t read_sample_size(const formats::JsonValue& config, std::int64_t fallback) {
  auto value = config.find("sample_size");
  if (!value || value->is_null()) return fallback;
  if (value->is_array()) value = value->element(0);
  const auto size = value->as<std::int64_t>();
  check_range(*value, size, kMostPixels);
  return size;
}

std::vector<double> read_channel_scale(const formats::JsonValue& config, const char* key,
                                       std::int64_t channels) {
  const auto list = config.find(key);
  if (!list || list->is_null()) return {};
  auto out = list->as_list<double>();
  if (static_cast<std::int64_t>(out.size()) != channels)
    list->fail(fmt::format("has {} entries, but latent_channels is {}", out.size(), channels));
  return out;
}

// As the reference does, one without the other counts as none.
void read_channel_scales(const formats::JsonValue& config, AutoencoderKLConfig& out) {
  out.latents_mean = read_channel_scale(config, "latents_mean", out.latent_channels);
  out.latents_std = read_channel_scale(config, "latents_std", out.latent_channels);
  if (!out.latents_mean.empty() && !out.latents_std.empty()) return;
  out.latents_mean.clear();
  out.latents_std.clear();
}

/// Visits the decoder's ResNet blocks from the latents on, with the number of upsamplings before each.
template <class Visit>
void visit_decoder(const AutoencoderKLConfig& config, const Visit& visit) {
  const auto levels = static_cast<std::int64_t>(config.channels.size());
  const std::int64_t inner = config.channels.back();
  std::int64_t in = inner;
  for (int i = 0; i < 2; ++i) visit(inner, inner, 0);
  for (std::int64_t level = 0; level < levels; ++level) {
    const std::int64_t out = config.channels[static_cast<std::size_t>(levels - 1 - level)];
    for (std::int64_t i = 0; i <= config.layers; ++i) {
      visit(in, out, level);
      in = out;
    }
  }
}

}  // namespace

std::int64_t AutoencoderKLConfig::factor() const {
  return std::int64_t{1} << (channels.size() - 1);
}

AutoencoderKLConfig AutoencoderKLConfig::read(const formats::JsonValue& config) {
  refuse_other_models(config);
  AutoencoderKLConfig out;
  out.layers = 1;  // what diffusers takes for absent keys
  out.sample_size = 32;
  models::read(config, "in_channels", out.in_channels, kMostChannels);
  models::read(config, "out_channels", out.out_channels, kMostChannels);
  models::read(config, "latent_channels", out.latent_channels, kMostChannels);
  models::read(config, "layers_per_block", out.layers, kMostLayers);
  models::read(config, "norm_num_groups", out.norm_groups, kMostChannels);
  out.channels = read_channels(config, out.norm_groups);
  expect_blocks(config, "down_block_types", "DownEncoderBlock2D", out.channels.size());
  expect_blocks(config, "up_block_types", "UpDecoderBlock2D", out.channels.size());
  out.mid_attention = config.get_or<bool>("mid_block_add_attention", out.mid_attention);
  out.quant_conv = config.get_or<bool>("use_quant_conv", out.quant_conv);
  out.post_quant_conv = config.get_or<bool>("use_post_quant_conv", out.post_quant_conv);
  out.scaling_factor = config.get_or<double>("scaling_factor", out.scaling_factor);
  if (!(out.scaling_factor > 0)) config.at("scaling_factor").fail("must be above 0");
  out.shift_factor = config.get_or<double>("shift_factor", out.shift_factor);
  read_channel_scales(config, out);
  out.force_upcast = config.get_or<bool>("force_upcast", out.force_upcast);
  out.sample_size = read_sample_size(config, out.sample_size);
  return out;
}

double AutoencoderKL::decode_flops(std::int64_t height, std::int64_t width) const {
  const AutoencoderKLConfig& c = config();
  const std::int64_t inner = c.channels.back(), outer = c.channels.front(), pixels = height * width;
  const auto levels = static_cast<std::int64_t>(c.channels.size());
  double sum = conv_flops(c.latent_channels, inner, 3, height, width) +
               conv_flops(outer, c.out_channels, 3, height * c.factor(), width * c.factor());
  if (c.post_quant_conv) sum += conv_flops(c.latent_channels, c.latent_channels, 1, height, width);
  if (c.mid_attention)
    sum += 4 * conv_flops(inner, inner, 1, height, width) + attention_flops(pixels, pixels, inner);
  visit_decoder(c, [&](std::int64_t in, std::int64_t out, std::int64_t ups) {
    sum += resnet_flops(in, out, height << ups, width << ups);
  });
  for (std::int64_t ups = 1; ups < levels; ++ups) {
    const std::int64_t channels = c.channels[static_cast<std::size_t>(levels - ups)];
    sum += conv_flops(channels, channels, 3, height << ups, width << ups);
  }
  return sum;
}

double AutoencoderKL::decode_activation_bytes(std::int64_t height, std::int64_t width,
                                              std::int64_t element) const {
  const double latent_pixels = static_cast<double>(height) * static_cast<double>(width);
  double most = 0;
  // A ResNet block holds its input, a normed tensor and a result, later also what the shortcut makes.
  visit_decoder(config(), [&](std::int64_t in, std::int64_t out, std::int64_t ups) {
    const auto channels = static_cast<double>(std::max(2 * in + out, in + 3 * out));
    most = std::max(most, channels * latent_pixels * static_cast<double>(std::int64_t{1} << (2 * ups)));
  });
  const double picture = static_cast<double>(config().out_channels * config().factor() * config().factor()) *
                         latent_pixels * sizeof(float);
  return most * static_cast<double>(element) + picture;
}

}  // namespace muster::models
