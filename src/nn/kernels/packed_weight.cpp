// SPDX-License-Identifier: Apache-2.0
#include "nn/kernels/packed_weight.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <vector>

namespace muster::nn::kernels {
namespace {

constexpr std::int64_t kVector =
    kPanelColumnsFp32;  // of the bf16 and int8 products, and a panel of the fp32 one
constexpr std::int64_t kQuantizedRows =
    256;  // at a time: they stay in the second-level cache until multiplied
constexpr std::int64_t kGroup = 4;
constexpr float kInt8Steps = 127.0f;

std::int64_t whole_vectors(std::int64_t columns) {
  return (columns + kVector - 1) / kVector * kVector;
}

// `group` neighbouring inputs of a column lie together; columns behind the last are zero.
template <typename Element>
at::Tensor pack_panels(const at::Tensor& rows, std::int64_t group, std::int64_t panel_columns) {
  const std::int64_t out = rows.size(0), in = rows.size(1), columns = whole_vectors(out);
  at::Tensor panels = at::zeros({columns * in}, rows.options());
  const auto* from = rows.const_data_ptr<Element>();
  auto* to = panels.mutable_data_ptr<Element>();
  for (std::int64_t first = 0; first < columns; first += panel_columns) {
    const std::int64_t width = std::min(panel_columns, columns - first);
    for (std::int64_t k = 0; k < in; k += group)
      for (std::int64_t column = first; column < first + width; ++column, to += group)
        if (column < out) std::copy_n(from + column * in + k, group, to);
  }
  return panels;
}

at::Tensor padded_columns(const at::Tensor& values) {
  at::Tensor padded = at::zeros({whole_vectors(values.size(0))}, c10::ScalarType::Float);
  padded.narrow(0, 0, values.size(0)).copy_(values);
  return padded;
}

// Zeros behind the last column; `x` itself where nothing is missing, as in every model of note.
at::Tensor with_columns(const at::Tensor& x, std::int64_t columns) {
  return x.size(1) == columns ? x : at::constant_pad_nd(x, {0, columns - x.size(1)});
}

// Rows of two halves so that a vector of the first stands in front of the same of the second.
at::Tensor beside_gates(const at::Tensor& rows) {
  std::vector<std::int64_t> shape{2, rows.size(0) / (2 * kVector), kVector};
  if (rows.dim() > 1) shape.push_back(rows.size(1));
  return rows.reshape(shape).transpose(0, 1).reshape(rows.sizes());
}

const Bf16* bits(const at::Tensor& x) {
  return reinterpret_cast<const Bf16*>(x.const_data_ptr<c10::BFloat16>());
}

}  // namespace

InputRows input_rows(const at::Tensor& x) {
  return {bits(x), x.stride(0), x.size(0)};
}

OutputRows output_rows(at::Tensor& x) {
  return {reinterpret_cast<Bf16*>(x.mutable_data_ptr<c10::BFloat16>()), x.stride(0)};
}

PackedWeight::PackedWeight(const at::Tensor& weight, const at::Tensor& bias, LinearActivation activation,
                           WeightStorage storage)
    : in_((weight.size(1) + kGroup - 1) / kGroup * kGroup),
      out_(weight.size(0)),
      storage_(storage),
      activation_(activation) {
  const at::Tensor whole = with_columns(weight, in_);
  switch (storage) {
    case WeightStorage::kFp32:
      pack_fp32(whole);
      break;
    case WeightStorage::kBf16:
      pack_bf16(whole, kPanelColumns);
      break;
    case WeightStorage::kBf16Gated:
      pack_bf16(beside_gates(whole), kGatedColumns);
      out_ /= 2;
      bias_ = padded_columns(beside_gates(bias));
      return;
    case WeightStorage::kInt8:
      pack_int8(whole);
      break;
  }
  bias_ = padded_columns(bias.defined() ? bias : at::zeros({out_}, c10::ScalarType::Float));
}

void PackedWeight::pack_fp32(const at::Tensor& weight) {
  panels_ = pack_panels<float>(weight.to(c10::ScalarType::Float).contiguous(), 1, kPanelColumnsFp32);
}

void PackedWeight::pack_bf16(const at::Tensor& weight, std::int64_t panel_columns) {
  panels_ = pack_panels<c10::BFloat16>(weight.to(c10::ScalarType::BFloat16).contiguous(), 2, panel_columns);
}

PanelsBf16 PackedWeight::panels_bf16() const {
  return {bits(panels_), in_, out_};
}

void PackedWeight::pack_int8(const at::Tensor& weight) {
  const std::int64_t groups = int8_groups(in_);
  const at::Tensor whole = with_columns(weight.to(c10::ScalarType::Float), groups * kInt8Group);
  const at::Tensor grouped = whole.view({out_, groups, kInt8Group});
  const at::Tensor scale = (at::amax(at::abs(grouped), {2}) / kInt8Steps).clamp_min(1e-20);  // [out, groups]
  const at::Tensor steps = at::round(grouped / scale.unsqueeze(2));
  const at::Tensor column_sum = steps.sum(2) * scale;
  const at::Tensor bytes = steps.view({out_, -1}).narrow(1, 0, in_).to(c10::ScalarType::Char).contiguous();
  panels_ = pack_panels<std::int8_t>(bytes, 4, kPanelColumns);
  const auto by_group = [](const at::Tensor& x) {
    return with_columns(x.t(), whole_vectors(x.size(0))).contiguous();
  };
  scale_ = by_group(scale);
  column_sum_ = by_group(column_sum);
}

void PackedWeight::multiply_fp32(const at::Tensor& x, const at::Tensor& residual, at::Tensor& out) const {
  const at::Tensor rows = with_columns(x, in_).contiguous();
  linear_fp32()({.panels = panels_.const_data_ptr<float>(),
                 .bias = bias_.const_data_ptr<float>(),
                 .x = rows.const_data_ptr<float>(),
                 .residual = residual.defined() ? residual.const_data_ptr<float>() : nullptr,
                 .y = out.mutable_data_ptr<float>(),
                 .rows = rows.size(0),
                 .in = in_,
                 .out = out_});
}

void PackedWeight::multiply(const at::Tensor& x, const at::Tensor& residual, at::Tensor& out) const {
  if (storage_ == WeightStorage::kFp32) return multiply_fp32(x, residual, out);
  const CpuKernels& kernels = *cpu_kernels();
  Epilogue epilogue{.bias = bias_.const_data_ptr<float>(), .gelu = &gelu_table(), .activation = activation_};
  if (residual.defined()) {
    epilogue.residual = bits(residual);
    epilogue.residual_stride = residual.stride(0);
  }
  const at::Tensor whole = with_columns(x, in_);
  InputRows rows = input_rows(whole);
  OutputRows result = output_rows(out);
  if (storage_ == WeightStorage::kBf16) return kernels.linear_bf16(panels_bf16(), rows, epilogue, result);
  if (storage_ == WeightStorage::kBf16Gated)
    return kernels.linear_gated_bf16({bits(panels_), in_, 2 * out_}, rows, epilogue, result);

  const PanelsInt8 panels{panels_.const_data_ptr<std::int8_t>(), scale_.const_data_ptr<float>(),
                          column_sum_.const_data_ptr<float>(), in_, out_};
  const std::int64_t most = std::min(rows.rows, kQuantizedRows);
  at::Tensor steps = at::empty({most, in_}, c10::ScalarType::Byte);
  at::Tensor ranges = at::empty({2, most, int8_groups(in_)}, c10::ScalarType::Float);
  const QuantizedRows quantized{steps.mutable_data_ptr<std::uint8_t>(), ranges.mutable_data_ptr<float>(),
                                ranges.mutable_data_ptr<float>() + ranges.stride(0)};
  for (std::int64_t left = rows.rows; left > 0; left -= most) {
    rows.rows = std::min(left, most);
    kernels.quantize_rows(rows, in_, quantized);
    kernels.linear_int8(panels, quantized, rows.rows, epilogue, result);
    rows.data += most * rows.stride;
    result.data += most * result.stride;
    if (epilogue.residual) epilogue.residual += most * epilogue.residual_stride;
  }
}

}  // namespace muster::nn::kernels
