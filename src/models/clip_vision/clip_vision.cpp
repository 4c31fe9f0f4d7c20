// SPDX-License-Identifier: Apache-2.0
#include "models/clip_vision/clip_vision.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

namespace muster::models {
namespace {

constexpr std::int64_t kChannels = 3;
constexpr std::int64_t kMostImageSize = 4096;

nn::Extent hidden_of(const ClipVisionConfig& config) {
  return {config.encoder.hidden, "hidden_size"};
}

}  // namespace

ClipVisionConfig ClipVisionConfig::read(const formats::JsonValue& config, std::int64_t projection) {
  ClipVisionConfig out;
  out.encoder = ClipEncoderConfig::read(
      config, {.hidden = 768, .intermediate = 3072, .layers = 12, .heads = 12, .mask = nn::Mask::kNone});
  out.image_size = read_clip_size(config, "image_size", out.image_size, kMostImageSize);
  out.patch_size = read_clip_size(config, "patch_size", out.patch_size, out.image_size);
  if (config.get_or<std::int64_t>("num_channels", kChannels) != kChannels)
    config.at("num_channels").fail("is not 3: pictures are RGB");
  out.projection = projection;
  return out;
}

PatchEmbedding::PatchEmbedding(const ClipVisionConfig& config) : patch_(config.patch_size) {
  const nn::Extent patch{patch_, "patch_size"};
  weight_ = &add_parameter("weight", {hidden_of(config), {kChannels, "num_channels"}, patch, patch});
}

at::Tensor PatchEmbedding::forward(const at::Tensor& pixels) const {
  const std::int64_t count = pixels.size(0), side = pixels.size(2) / patch_;
  // Pixels that fill no patch are left out, as a convolution does.
  const at::Tensor inside = pixels.narrow(2, 0, side * patch_).narrow(3, 0, side * patch_);
  const at::Tensor rows = inside.reshape({count, kChannels, side, patch_, side, patch_})
                              .permute({0, 2, 4, 1, 3, 5})
                              .reshape({count * side * side, kChannels * patch_ * patch_});
  return packed_.apply(rows, {}).view({count, side * side, -1});
}

void PatchEmbedding::on_prepare(const nn::ComputeTarget& target) {
  packed_ = nn::PackedLinear(weight_->value.flatten(1), {}, nn::Activation::kIdentity, target);
  weight_->value.reset();
}

ClipVision::ClipVision(const ClipVisionConfig& config)
    : patch_embedding_(config),
      position_embedding_({config.patches() + 1, "image_size"}, hidden_of(config)),
      pre_norm_(hidden_of(config), config.encoder.epsilon),
      encoder_(config.encoder),
      post_norm_(hidden_of(config), config.encoder.epsilon),
      projection_(hidden_of(config), {config.projection, "projection_dim"}, nn::Activation::kIdentity,
                  nn::Bias::kNo) {
  class_embedding_ = &add_parameter("vision_model.embeddings.class_embedding", {hidden_of(config)});
  add_child("vision_model.embeddings.patch_embedding", patch_embedding_);
  add_child("vision_model.embeddings.position_embedding", position_embedding_);
  add_child("vision_model.pre_layrnorm", pre_norm_);  // as the checkpoints spell it
  add_child("vision_model.encoder", encoder_);
  add_child("vision_model.post_layernorm", post_norm_);
  add_child("visual_projection", projection_);
}

void ClipVision::on_prepare(const nn::ComputeTarget& target) {
  class_embedding_->value = class_embedding_->value.to(target.device, target.dtype, false, /*copy=*/true);
}

at::Tensor ClipVision::forward(const at::Tensor& pixels) const {
  const at::Tensor patches = patch_embedding_.forward(pixels);
  const at::Tensor first = class_embedding_->value.view({1, 1, -1}).expand({patches.size(0), 1, -1});
  const at::Tensor tokens = at::cat({first, patches}, 1);
  const at::Tensor places = at::arange(tokens.size(1), at::device(tokens.device()).dtype(at::kLong));
  const at::Tensor x = pre_norm_.apply(tokens + position_embedding_.apply(places));
  const at::Tensor summary = encoder_.forward(x).last.select(1, 0);
  return projection_.apply(post_norm_.apply(summary));
}

}  // namespace muster::models
