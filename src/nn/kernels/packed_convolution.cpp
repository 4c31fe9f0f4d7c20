// SPDX-License-Identifier: Apache-2.0
#include "nn/kernels/packed_convolution.h"

#include <ATen/Functions.h>

namespace muster::nn::kernels {
namespace {

constexpr auto kChannelsLast = at::MemoryFormat::ChannelsLast;

const Bf16* bits(const at::Tensor& x) {
  return reinterpret_cast<const Bf16*>(x.const_data_ptr<c10::BFloat16>());
}

// [.., channels, height, width] with a channel of zeros behind an odd count.
at::Tensor even_channels(const at::Tensor& x) {
  return x.size(1) % 2 == 0 ? x : at::constant_pad_nd(x, {0, 0, 0, 0, 0, 1});
}

// A row's inputs are those of one tap after another.
at::Tensor by_taps(const at::Tensor& weight) {
  return even_channels(weight).permute({0, 2, 3, 1}).reshape({weight.size(0), -1});
}

}  // namespace

PackedConvolution::PackedConvolution(const at::Tensor& weight, const at::Tensor& bias, ConvShape shape)
    : shape_(shape),
      channels_((weight.size(1) + 1) / 2 * 2),
      weight_(by_taps(weight), bias, LinearActivation::kIdentity, WeightStorage::kBf16),
      zeros_(at::zeros({channels_}, c10::ScalarType::BFloat16)) {}

at::Tensor PackedConvolution::convolve(const at::Tensor& x, const ConvolutionAdded& added) const {
  const at::Tensor pixels = even_channels(x).contiguous(kChannelsLast);
  const auto size_of = [&](std::int64_t in) {
    return (in + 2 * shape_.padding - shape_.kernel) / shape_.stride + 1;
  };
  const ConvolutionBf16 convolution{.weights = weight_.panels_bf16(),
                                    .x = bits(pixels),
                                    .zeros = bits(zeros_),
                                    .samples = x.size(0),
                                    .height = x.size(2),
                                    .width = x.size(3),
                                    .channels = channels_,
                                    .kernel = shape_.kernel,
                                    .stride = shape_.stride,
                                    .padding = shape_.padding,
                                    .out_height = size_of(x.size(2)),
                                    .out_width = size_of(x.size(3))};
  const std::int64_t out = weight_.out();
  at::Tensor result =
      at::empty({x.size(0), out, convolution.out_height, convolution.out_width}, x.options(), kChannelsLast);
  Epilogue epilogue{.bias = weight_.bias()};
  const at::Tensor shift = added.shift.defined() ? added.shift.contiguous() : added.shift;
  if (shift.defined()) {
    epilogue.shift = bits(shift);
    epilogue.shift_stride = out;
    epilogue.shift_rows = convolution.out_height * convolution.out_width;
  }
  const at::Tensor residual =
      added.residual.defined() ? added.residual.contiguous(kChannelsLast) : added.residual;
  if (residual.defined()) {
    epilogue.residual = bits(residual);
    epilogue.residual_stride = out;
  }
  at::Tensor scratch = at::empty({kConvolutionScratch}, c10::ScalarType::Float);
  auto* to = reinterpret_cast<Bf16*>(result.mutable_data_ptr<c10::BFloat16>());
  cpu_kernels()->convolve_bf16(convolution, epilogue, {to, out}, scratch.mutable_data_ptr<float>());
  return result;
}

}  // namespace muster::nn::kernels
