// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include "muster/nn/image_layers.h"
#include "nn/kernels/packed_weight.h"

namespace muster::nn::kernels {

/// What is added to a convolution's result before it is rounded; either may be undefined.
struct ConvolutionAdded {
  at::Tensor shift;     ///< [samples, out], to every pixel
  at::Tensor residual;  ///< as the result
};

/// A convolution's weight in panels for our own product, in bf16. A pixel's bytes depend on nothing but the
/// pixels under the kernel; a batch reads the weights once.
class PackedConvolution {
 public:
  /// `weight` [out, in, kernel, kernel], `bias` [out].
  PackedConvolution(const at::Tensor& weight, const at::Tensor& bias, ConvShape shape);
  at::Tensor convolve(const at::Tensor& x, const ConvolutionAdded& added) const;

 private:
  ConvShape shape_;
  std::int64_t channels_;  // of the input, up to even
  PackedWeight weight_;
  at::Tensor zeros_;
};

}  // namespace muster::nn::kernels
