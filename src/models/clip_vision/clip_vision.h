// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "models/clip_encoder.h"
#include "muster/formats/json.h"
#include "muster/nn/linear.h"
#include "muster/nn/module.h"
#include "muster/nn/norm.h"

namespace muster::models {

/// CLIP's vision transformer (Dosovitskiy et al., 2020; Radford et al., 2021).
struct ClipVisionConfig {
  ClipEncoderConfig encoder;
  std::int64_t image_size = 224, patch_size = 32;
  std::int64_t projection = 512;  ///< of the whole model
  static ClipVisionConfig read(const formats::JsonValue& config, std::int64_t projection);
  std::int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
};

/// A convolution that looks at every patch once: a product of the patches as rows.
class PatchEmbedding : public nn::Module {
 public:
  explicit PatchEmbedding(const ClipVisionConfig& config);
  at::Tensor forward(const at::Tensor& pixels) const;  ///< [n, 3, size, size] -> [n, patches, hidden]

 protected:
  void on_prepare(const nn::ComputeTarget& target) override;

 private:
  std::int64_t patch_;
  nn::Parameter* weight_ = nullptr;
  nn::PackedLinear packed_;
};

/// Named as in the checkpoint ("vision_model.encoder.layers.0...", "visual_projection.weight").
class ClipVision : public nn::Module {
 public:
  explicit ClipVision(const ClipVisionConfig& config);
  /// [n, 3, size, size] -> [n, projection]. Prepared only.
  at::Tensor forward(const at::Tensor& pixels) const;

 protected:
  void on_prepare(const nn::ComputeTarget& target) override;

 private:
  nn::Parameter* class_embedding_ = nullptr;
  PatchEmbedding patch_embedding_;
  nn::Embedding position_embedding_;
  nn::LayerNorm pre_norm_;
  ClipEncoder encoder_;
  nn::LayerNorm post_norm_;
  nn::Linear projection_;
};

}  // namespace muster::models
