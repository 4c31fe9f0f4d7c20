// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/attention.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>

#include "nn/kernels/own_kernels.h"
#include "nn/kernels/packed_weight.h"

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

void attend_by_library(const at::Tensor& qkv, std::span<const SequenceRun> runs, const HeadShape& shape,
                       const at::Tensor& bias, at::Tensor& context) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(shape.width));
  const std::int64_t width = shape.padded_width(qkv.scalar_type());
  for (const auto& [first_row, count, length] : runs) {
    const at::Tensor rows = qkv.narrow(0, first_row, count * length)
                                .view({count, length, 3, shape.heads, width})
                                .permute({2, 0, 3, 1, 4});  // [3, count, heads, length, width]
    const at::Tensor bias_slice = bias.defined() ? bias.narrow(2, 0, length).narrow(3, 0, length) : bias;
    const at::Tensor attended = attend_batch(rows[0], rows[1], rows[2], bias_slice, scale);
    context.narrow(0, first_row, count * length)
        .view({count, length, shape.heads, width})
        .copy_(attended.transpose(1, 2));
  }
}

void attend_by_kernel(const at::Tensor& qkv, std::span<const SequenceRun> runs, const HeadShape& shape,
                      const at::Tensor& distances, at::Tensor& context) {
  const std::int64_t width = shape.padded_width(qkv.scalar_type()), columns = shape.heads * width;
  std::int64_t longest = 0;
  for (const SequenceRun& run : runs) longest = std::max(longest, run.length);
  at::Tensor scratch = at::empty({kernels::attention_scratch_bytes(longest, width)}, c10::ScalarType::Byte);
  const kernels::InputRows inputs = kernels::input_rows(qkv);
  const kernels::OutputRows outputs = kernels::output_rows(context);
  for (const auto& [first_row, count, length] : runs)
    for (std::int64_t row = first_row; row < first_row + count * length; row += length)
      for (std::int64_t head = 0; head < shape.heads; ++head) {
        const kernels::Bf16* query = inputs.data + row * inputs.stride + head * width;
        kernels::HeadInputs one{.query = query,
                                .key = query + columns,
                                .value = query + 2 * columns,
                                .stride = inputs.stride,
                                .key_stride = inputs.stride,
                                .length = length,
                                .keys = length,
                                .width = width,
                                .scale = 1.0f / std::sqrt(static_cast<float>(shape.width))};
        if (distances.defined())
          one.distance_bias =
              distances.const_data_ptr<float>() + head * distances.size(1) + distances.size(1) / 2;
        kernels::cpu_kernels()->attend_head(
            one, {outputs.data + row * outputs.stride + head * width, outputs.stride},
            scratch.mutable_data_ptr());
      }
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

AttentionBias AttentionBias::by_distance(const at::Tensor& by_distance, const ComputeTarget& target) {
  AttentionBias bias;
  if (kernels::has_own_attention(target.device, target.dtype)) {
    bias.distances_ = by_distance.contiguous();
    return bias;
  }
  // Row i begins at distance -i: windows over the distances, the last one first.
  const std::int64_t longest = (by_distance.size(1) + 1) / 2;
  const at::Tensor scores = by_distance.unfold(1, longest, 1).flip(1).unsqueeze(0);
  // The CPU's attention adds an fp32 bias to fp32 scores in any compute type; CUDA's wants the compute type.
  const bool on_cpu = target.device.type() == c10::DeviceType::CPU;
  bias.scores_ = scores.contiguous().to(target.device, on_cpu ? c10::ScalarType::Float : target.dtype);
  return bias;
}

void attend(const at::Tensor& qkv, std::span<const SequenceRun> runs, const HeadShape& shape,
            const AttentionBias& bias, at::Tensor& context) {
  if (kernels::has_own_attention(qkv.device(), qkv.scalar_type()) && !bias.scores().defined())
    attend_by_kernel(qkv, runs, shape, bias.distances(), context);
  else
    attend_by_library(qkv, runs, shape, bias.scores(), context);
  const std::int64_t row = runs.empty() ? 0 : runs.back().first_row + runs.back().count * runs.back().length;
  context.narrow(0, row, context.size(0) - row).zero_();
}

}  // namespace muster::nn
