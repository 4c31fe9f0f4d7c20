// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "muster/formats/json.h"
#include "muster/nn/module.h"

namespace muster::models {

/// diffusers' AutoencoderKL (Kingma and Welling, 2013; Rombach et al., 2022).
struct AutoencoderKLConfig {
  std::int64_t in_channels = 3, out_channels = 3, latent_channels = 4;
  std::vector<std::int64_t> channels{128, 256, 512, 512};  ///< block_out_channels
  std::int64_t layers = 2;                                 ///< layers_per_block
  std::int64_t norm_groups = 32;
  bool mid_attention = true, quant_conv = true, post_quant_conv = true;
  double scaling_factor = 0.18215;
  double shift_factor = 0;                        ///< other pipelines' than these
  std::vector<double> latents_mean, latents_std;  ///< a channel; beside the factor, where there are any
  bool force_upcast = true;                       ///< overflows in fp16: decoded in fp32 then (bf16 does not)
  std::int64_t sample_size = 512;
  std::int64_t factor() const;  ///< picture pixels a latent pixel, in one direction
  static AutoencoderKLConfig read(const formats::JsonValue& config);
};

/// Parts of the model to build: sampling needs the decoder alone, and the encoder's tensors stay unread.
enum class AutoencoderParts { kDecoder, kBoth };

class AutoencoderKL : public nn::Module {
 public:
  AutoencoderKL(const AutoencoderKLConfig& config, AutoencoderParts parts);
  ~AutoencoderKL() override;
  /// Pictures [n, 3, H, W] in [-1, 1] -> mean and log variance (clamped to [-30, 20]), [n, 2 *
  /// latent_channels, h, w].
  at::Tensor encode(const at::Tensor& pictures) const;
  /// Unscaled latents (already divided by scaling_factor) [n, latent_channels, h, w] -> [n, 3, H, W], fp32.
  at::Tensor decode(const at::Tensor& latents) const;
  /// The same in overlapping tiles of `tile` latent pixels a side (at least 2), blended as diffusers does
  /// (overlap 0.25), in bounded memory. Equal to decode() where the picture is one tile.
  at::Tensor decode_tiled(const at::Tensor& latents, std::int64_t tile) const;
  const AutoencoderKLConfig& config() const;
  double decode_flops(std::int64_t height, std::int64_t width) const;  ///< latent pixels, one sample
  double decode_activation_bytes(std::int64_t height, std::int64_t width, std::int64_t element) const;

 protected:
  void on_prepare(const nn::ComputeTarget& target) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::models
