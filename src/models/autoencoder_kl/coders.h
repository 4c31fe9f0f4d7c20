// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <vector>

#include "models/image_blocks.h"
#include "muster/models/autoencoder_kl.h"
#include "muster/nn/upsampled_conv.h"

namespace muster::models {

/// The mid block's attention of every pixel to every other, one head over all channels: group_norm, to_q,
/// to_k, to_v, to_out.0, and the input added.
class PixelAttention : public nn::Module {
 public:
  PixelAttention(nn::Extent channels, std::int64_t groups);
  at::Tensor forward(const at::Tensor& x) const;

 private:
  nn::GroupNorm norm_;
  nn::Linear query_, key_, value_, out_;
};

/// A ResNet block, attention, another ResNet block.
class AutoencoderMidBlock : public nn::Module {
 public:
  AutoencoderMidBlock(const AutoencoderKLConfig& config, nn::Extent channels);
  at::Tensor forward(const at::Tensor& x) const;

 private:
  std::unique_ptr<ResnetBlock> first_, second_;
  std::unique_ptr<PixelAttention> attention_;
};

/// A level of the encoder or decoder: ResNet blocks, then a change of size at all levels but the last.
class AutoencoderLevel : public nn::Module {
 public:
  AutoencoderLevel(const AutoencoderKLConfig& config, nn::Extent in, nn::Extent out, std::int64_t resnets);
  void add_halving();   ///< "downsamplers.0.conv"
  void add_doubling();  ///< "upsamplers.0.conv"
  at::Tensor forward(at::Tensor x) const;

 private:
  nn::Extent channels_;
  std::vector<std::unique_ptr<ResnetBlock>> resnets_;
  std::unique_ptr<nn::Conv2d> halve_;
  std::unique_ptr<nn::UpsampledConv2d> double_;
};

/// Pictures to moments, before quant_conv.
class AutoencoderEncoder : public nn::Module {
 public:
  explicit AutoencoderEncoder(const AutoencoderKLConfig& config);
  at::Tensor forward(const at::Tensor& pictures) const;

 private:
  nn::Conv2d conv_in_;
  std::vector<std::unique_ptr<AutoencoderLevel>> levels_;
  AutoencoderMidBlock mid_;
  nn::GroupNorm norm_out_;
  nn::Conv2d conv_out_;
};

/// Latents, behind post_quant_conv, to pictures.
class AutoencoderDecoder : public nn::Module {
 public:
  explicit AutoencoderDecoder(const AutoencoderKLConfig& config);
  at::Tensor forward(const at::Tensor& latents) const;

 private:
  nn::Conv2d conv_in_;
  AutoencoderMidBlock mid_;
  std::vector<std::unique_ptr<AutoencoderLevel>> levels_;
  nn::GroupNorm norm_out_;
  nn::Conv2d conv_out_;
};

}  // namespace muster::models
