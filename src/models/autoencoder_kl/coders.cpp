// SPDX-License-Identifier: Apache-2.0
#include "models/autoencoder_kl/coders.h"

#include <ATen/Functions.h>
#include <fmt/format.h>

#include <algorithm>

namespace muster::models {
namespace {

constexpr double kEpsilon = 1e-6;
constexpr nn::ConvShape kHalve{.kernel = 3, .stride = 2, .padding = 0};
constexpr const char* kChannels = "block_out_channels";

nn::Extent channels_at(const AutoencoderKLConfig& config, std::size_t level) {
  return {config.channels[level], kChannels};
}

nn::Extent innermost(const AutoencoderKLConfig& config) {
  return channels_at(config, config.channels.size() - 1);
}

std::unique_ptr<ResnetBlock> make_resnet(const AutoencoderKLConfig& config, nn::Extent in, nn::Extent out) {
  return std::make_unique<ResnetBlock>(
      ResnetConfig{.in = in, .out = out, .groups = config.norm_groups, .epsilon = kEpsilon});
}

}  // namespace

PixelAttention::PixelAttention(nn::Extent channels, std::int64_t groups)
    : norm_(groups, channels, kEpsilon),
      query_(channels, channels),
      key_(channels, channels),
      value_(channels, channels),
      out_(channels, channels) {
  add_child("group_norm", norm_);
  add_child("to_q", query_);
  add_child("to_k", key_);
  add_child("to_v", value_);
  add_child("to_out.0", out_);
}

at::Tensor PixelAttention::forward(const at::Tensor& x) const {
  const at::Tensor rows = nn::to_rows(norm_.forward(x));  // [n, pixels, channels]
  const at::Tensor seen =
      nn::attend_all(query_.apply(rows), key_.apply(rows), value_.apply(rows), /*heads=*/1);
  return nn::to_picture(out_.apply(seen, nn::to_rows(x)), x.size(2), x.size(3));
}

AutoencoderMidBlock::AutoencoderMidBlock(const AutoencoderKLConfig& config, nn::Extent channels)
    : first_(make_resnet(config, channels, channels)), second_(make_resnet(config, channels, channels)) {
  if (config.mid_attention) {
    attention_ = std::make_unique<PixelAttention>(channels, config.norm_groups);
    add_child("attentions.0", *attention_);
  }
  add_child("resnets.0", *first_);
  add_child("resnets.1", *second_);
}

at::Tensor AutoencoderMidBlock::forward(const at::Tensor& x) const {
  const at::Tensor y = first_->forward(x);
  return second_->forward(attention_ ? attention_->forward(y) : y);
}

AutoencoderLevel::AutoencoderLevel(const AutoencoderKLConfig& config, nn::Extent in, nn::Extent out,
                                   std::int64_t resnets)
    : channels_(out) {
  for (std::int64_t i = 0; i < resnets; ++i) {
    resnets_.push_back(make_resnet(config, i == 0 ? in : out, out));
    add_child(fmt::format("resnets.{}", i), *resnets_.back());
  }
}

void AutoencoderLevel::add_halving() {
  halve_ = std::make_unique<nn::Conv2d>(channels_, channels_, kHalve);
  add_child("downsamplers.0.conv", *halve_);
}

void AutoencoderLevel::add_doubling() {
  double_ = std::make_unique<nn::UpsampledConv2d>(channels_, channels_, nn::Enlargement::kDoubled);
  add_child("upsamplers.0.conv", *double_);
}

at::Tensor AutoencoderLevel::forward(at::Tensor x) const {
  for (const auto& resnet : resnets_) x = resnet->forward(x);
  if (halve_) return halve_->forward(at::constant_pad_nd(x, {0, 1, 0, 1}));  // to the right and below
  return double_ ? double_->enlarge(x) : x;
}

AutoencoderEncoder::AutoencoderEncoder(const AutoencoderKLConfig& config)
    : conv_in_({config.in_channels, "in_channels"}, channels_at(config, 0)),
      mid_(config, innermost(config)),
      norm_out_(config.norm_groups, innermost(config), kEpsilon),
      conv_out_(innermost(config), {2 * config.latent_channels, "latent_channels"}) {
  add_child("conv_in", conv_in_);
  for (std::size_t i = 0; i < config.channels.size(); ++i) {
    auto& level = *levels_.emplace_back(std::make_unique<AutoencoderLevel>(
        config, channels_at(config, i == 0 ? 0 : i - 1), channels_at(config, i), config.layers));
    if (i + 1 < config.channels.size()) level.add_halving();
    add_child(fmt::format("down_blocks.{}", i), level);
  }
  add_child("mid_block", mid_);
  add_child("conv_norm_out", norm_out_);
  add_child("conv_out", conv_out_);
}

at::Tensor AutoencoderEncoder::forward(const at::Tensor& pictures) const {
  at::Tensor x = conv_in_.forward(pictures);
  for (const auto& level : levels_) x = level->forward(x);
  return conv_out_.forward(norm_out_.forward(mid_.forward(x), nn::Activation::kSilu));
}

AutoencoderDecoder::AutoencoderDecoder(const AutoencoderKLConfig& config)
    : conv_in_({config.latent_channels, "latent_channels"}, innermost(config)),
      mid_(config, innermost(config)),
      norm_out_(config.norm_groups, channels_at(config, 0), kEpsilon),
      conv_out_(channels_at(config, 0), {config.out_channels, "out_channels"}) {
  add_child("conv_in", conv_in_);
  add_child("mid_block", mid_);
  const std::size_t levels = config.channels.size();
  for (std::size_t i = 0; i < levels; ++i) {
    const nn::Extent in = channels_at(config, levels - std::max<std::size_t>(i, 1)),
                     out = channels_at(config, levels - 1 - i);
    auto& level =
        *levels_.emplace_back(std::make_unique<AutoencoderLevel>(config, in, out, config.layers + 1));
    if (i + 1 < levels) level.add_doubling();
    add_child(fmt::format("up_blocks.{}", i), level);
  }
  add_child("conv_norm_out", norm_out_);
  add_child("conv_out", conv_out_);
}

at::Tensor AutoencoderDecoder::forward(const at::Tensor& latents) const {
  at::Tensor x = mid_.forward(conv_in_.forward(latents));
  for (const auto& level : levels_) x = level->forward(x);
  return conv_out_.forward(norm_out_.forward(x, nn::Activation::kSilu));
}

}  // namespace muster::models
