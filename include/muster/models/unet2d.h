// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "muster/formats/json.h"
#include "muster/nn/module.h"

namespace muster::models {

/// diffusers' UNet2DConditionModel as Stable Diffusion 1.x, 2.x and SDXL use it (Rombach et al., 2022; Podell
/// et al., 2023). Whatever would make another model of it is refused by key.
struct UNet2DConfig {
  std::int64_t in_channels = 4, out_channels = 4;
  std::int64_t sample_size = 64;                             ///< latents' usual height and width
  std::vector<std::int64_t> channels{320, 640, 1280, 1280};  ///< block_out_channels
  std::vector<std::int64_t> layers{2, 2, 2, 2};              ///< residual blocks of each
  std::vector<std::int64_t> transformers{1, 1, 1, 0};  ///< transformer blocks behind each; 0: no attention
  std::int64_t mid_transformers = 1;                   ///< of the mid block; 0: there is none
  std::vector<std::int64_t> heads{8, 8, 8, 8};
  std::int64_t cross_width = 768;  ///< cross_attention_dim
  std::int64_t norm_groups = 32;
  double norm_epsilon = 1e-5;
  bool linear_projection = false;
  std::int64_t time_ids_width = 0;          ///< addition_time_embed_dim; 0: SD without added conditions
  std::int64_t added_projection_width = 0;  ///< projection_class_embeddings_input_dim
  bool flip_sin_to_cos = true;
  double frequency_shift = 0;
  std::int64_t time_width() const { return 4 * channels.front(); }
  static UNet2DConfig read(const formats::JsonValue& config);
};

/// What a step's batch is conditioned on, made once for all steps: the cross-attention keys and values of
/// every layer, and SDXL's added embedding. Rows can be taken out and joined, as guidance halves are.
struct UNetCondition {
  std::vector<at::Tensor> keys, values;  ///< a layer each, [n, tokens, width]
  at::Tensor added;                      ///< [n, time width] or undefined
  std::int64_t rows() const;
  UNetCondition narrow(std::int64_t first, std::int64_t count) const;
  static UNetCondition join(const std::vector<UNetCondition>& parts);
};

/// SDXL's added conditions; undefined for SD.
struct UNetAdded {
  at::Tensor text_embeds;  ///< [n, projection]
  at::Tensor time_ids;     ///< [n, 6]: original height, width, crop top, left, target height, width
};

class UNet2D : public nn::Module {
 public:
  explicit UNet2D(const UNet2DConfig& config);
  ~UNet2D() override;
  /// `hidden` [n, tokens, cross_width].
  UNetCondition condition(const at::Tensor& hidden, const UNetAdded& added) const;
  /// `latents` [n, in_channels, h, w], `timesteps` fp32 [n] -> [n, out_channels, h, w] in fp32. Any h and w
  /// that the number of halvings allows, odd ones too where diffusers does (it passes sizes up).
  at::Tensor forward(const at::Tensor& latents, const at::Tensor& timesteps,
                     const UNetCondition& condition) const;
  const UNet2DConfig& config() const;
  double flops(std::int64_t height, std::int64_t width, std::int64_t tokens) const;  ///< of one sample
  /// Bytes of activations at their peak, of one sample, `element` bytes each.
  double activation_bytes(std::int64_t height, std::int64_t width, std::int64_t element) const;

 protected:
  void on_prepare(const nn::ComputeTarget& target) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::models
