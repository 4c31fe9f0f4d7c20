// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>

#include "muster/nn/image_layers.h"
#include "muster/nn/linear.h"

/// What UNets and autoencoders of diffusers share, with the checkpoint's names.
namespace muster::models {

struct ResnetConfig {
  nn::Extent in, out;
  std::int64_t groups = 32;
  double epsilon = 1e-6;
  nn::Extent time_width;  ///< of the embedding of the step; 0: the block has none
};

/// Two convolutions around a shortcut, told the time in between (Ho et al., 2020): norm1, conv1,
/// time_emb_proj, norm2, conv2 and, where the channels change, conv_shortcut.
class ResnetBlock : public nn::Module {
 public:
  explicit ResnetBlock(const ResnetConfig& config);
  /// `time` is the activated embedding of the step, [n, time_width], or undefined.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& time = {}) const;

 private:
  nn::GroupNorm norm1_, norm2_;
  nn::Conv2d conv1_, conv2_;
  std::unique_ptr<nn::Linear> time_;
  std::unique_ptr<nn::Conv2d> shortcut_;
};

/// Of a convolution without padding loss, one sample of `height` x `width` results.
double conv_flops(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t height,
                  std::int64_t width);
/// Of a ResNet block without a step's embedding.
double resnet_flops(std::int64_t in, std::int64_t out, std::int64_t height, std::int64_t width);
/// Of the products of queries with keys and of probabilities with values, all heads together.
double attention_flops(std::int64_t queries, std::int64_t keys, std::int64_t channels);

}  // namespace muster::models
