// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/attention.h"

#include <ATen/Functions.h>

#include <cmath>

namespace muster::nn {
namespace {

constexpr std::int64_t kCacheLineBytes = 64;

// [count, heads, length, width]; the CPU kernel is called by name, because the general entry may choose
// another algorithm by shape.
at::Tensor attend_batch(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                        const at::Tensor& bias, double scale) {
  const std::optional<at::Tensor> mask = bias.defined() ? std::optional(bias) : std::nullopt;
  if (query.device().type() == c10::DeviceType::CPU)
    return std::get<0>(at::_scaled_dot_product_flash_attention_for_cpu(query, key, value, /*dropout_p=*/0.0,
                                                                       /*is_causal=*/false, mask, scale));
  return at::scaled_dot_product_attention(query, key, value, mask, /*dropout_p=*/0.0, /*is_causal=*/false,
                                          scale);
}

}  // namespace

std::vector<SequenceRun> runs_of_equal_length(std::span<const std::uint32_t> lengths) {
  std::vector<SequenceRun> runs;
  std::int64_t row = 0;
  for (const std::uint32_t length : lengths) {
    if (runs.empty() || runs.back().length != length) runs.push_back({row, 0, length});
    ++runs.back().count;
    row += length;
  }
  return runs;
}

std::int64_t HeadShape::padded_width(c10::ScalarType dtype) const {
  const auto step = kCacheLineBytes / static_cast<std::int64_t>(c10::elementSize(dtype));
  return (width + step - 1) / step * step;
}

void attend(const at::Tensor& qkv, std::span<const SequenceRun> runs, const HeadShape& shape,
            const at::Tensor& bias, at::Tensor& context) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(shape.width));
  const std::int64_t width = shape.padded_width(qkv.scalar_type());
  std::int64_t row = 0;
  for (const auto& [first_row, count, length] : runs) {
    const at::Tensor rows = qkv.narrow(0, first_row, count * length)
                                .view({count, length, 3, shape.heads, width})
                                .permute({2, 0, 3, 1, 4});  // [3, count, heads, length, width]
    const at::Tensor bias_slice = bias.defined() ? bias.narrow(2, 0, length).narrow(3, 0, length) : bias;
    const at::Tensor attended = attend_batch(rows[0], rows[1], rows[2], bias_slice, scale);
    context.narrow(0, first_row, count * length)
        .view({count, length, shape.heads, width})
        .copy_(attended.transpose(1, 2));
    row = first_row + count * length;
  }
  context.narrow(0, row, context.size(0) - row).zero_();
}

}  // namespace muster::nn
