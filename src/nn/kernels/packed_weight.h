// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include "muster/nn/activation.h"
#include "nn/kernels/cpu_kernels.h"

namespace muster::nn::kernels {

enum class WeightStorage : std::uint8_t {
  kFp32,
  kBf16,
  kBf16Gated,  ///< hidden * gelu(gate): the rows of the hidden half, then those of the gates; both of whole
               ///< vectors
  kInt8
};

/// A linear layer's weight in panels for our own products.
///
/// int8: a group of inputs has a scale in each output column, and a scale and a least value in each input
/// row, found when it is computed (Dettmers et al., LLM.int8(), 2022, have one scale a row: not enough here,
/// see kInt8Group).
class PackedWeight {
 public:
  /// `weight` [out, in], `bias` [out] or undefined. fp32 has no activation.
  PackedWeight(const at::Tensor& weight, const at::Tensor& bias, LinearActivation activation,
               WeightStorage storage);

  /// `x` [rows, in], `out` [rows, out] and `residual` (as `out`, or undefined): fp32 and contiguous, or bf16
  /// with rows contiguous in themselves.
  void multiply(const at::Tensor& x, const at::Tensor& residual, at::Tensor& out) const;

  std::int64_t out() const { return out_; }  ///< of the result
  PanelsBf16 panels_bf16() const;            ///< kBf16 alone
  const float* bias() const { return bias_.const_data_ptr<float>(); }

 private:
  void multiply_fp32(const at::Tensor& x, const at::Tensor& residual, at::Tensor& out) const;
  void pack_fp32(const at::Tensor& weight);
  void pack_bf16(const at::Tensor& weight, std::int64_t panel_columns);
  void pack_int8(const at::Tensor& weight);

  std::int64_t in_ = 0;  // up to whole groups of 4
  std::int64_t out_ = 0;
  WeightStorage storage_;
  LinearActivation activation_;
  at::Tensor panels_;              // fp32, bf16 or int8
  at::Tensor bias_;                // fp32 [columns], zero where there is none
  at::Tensor scale_, column_sum_;  // fp32 [groups, columns], int8 only
};

InputRows input_rows(const at::Tensor& x);
OutputRows output_rows(at::Tensor& x);

}  // namespace muster::nn::kernels
