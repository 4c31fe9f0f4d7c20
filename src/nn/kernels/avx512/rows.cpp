// SPDX-License-Identifier: Apache-2.0
// Passes over rows: layer norm and quantizing.
#include "nn/kernels/avx512/elements.h"
#include "nn/kernels/avx512/kernels.h"

namespace muster::nn::kernels {
namespace {

void norm_row(const Bf16* x, std::int64_t width, const NormWeights& weights, Bf16* out) {
  __m512 sum = _mm512_setzero_ps();
  for_vectors(width,
              [&](std::int64_t c, __mmask16 lanes) { sum = _mm512_add_ps(sum, load_bf16(x + c, lanes)); });
  const float mean = _mm512_reduce_add_ps(sum) / static_cast<float>(width);
  const __m512 means = _mm512_set1_ps(mean);
  __m512 squares = _mm512_setzero_ps();
  for_vectors(width, [&](std::int64_t c, __mmask16 lanes) {
    const __m512 d = _mm512_maskz_sub_ps(lanes, load_bf16(x + c, lanes), means);
    squares = _mm512_fmadd_ps(d, d, squares);
  });
  const float variance = _mm512_reduce_add_ps(squares) / static_cast<float>(width);
  const __m512 inverse = _mm512_set1_ps(1.0f / __builtin_sqrtf(variance + weights.epsilon));
  for_vectors(width, [&](std::int64_t c, __mmask16 lanes) {
    const __m512 d = _mm512_mul_ps(_mm512_sub_ps(load_bf16(x + c, lanes), means), inverse);
    const __m512 gamma = _mm512_maskz_loadu_ps(lanes, weights.gamma + c);
    const __m512 beta = _mm512_maskz_loadu_ps(lanes, weights.beta + c);
    store_bf16(out + c, _mm512_fmadd_ps(d, gamma, beta), lanes);
  });
}

void quantize_group(const Bf16* x, std::int64_t width, std::uint8_t* out, float& scale, float& low) {
  __m512 least = _mm512_set1_ps(__builtin_inff());
  __m512 most = _mm512_set1_ps(-__builtin_inff());
  for_vectors(width, [&](std::int64_t c, __mmask16 lanes) {
    const __m512 v = load_bf16(x + c, lanes);
    least = _mm512_mask_min_ps(least, lanes, least, v);
    most = _mm512_mask_max_ps(most, lanes, most, v);
  });
  low = _mm512_reduce_min_ps(least);
  const float range = _mm512_reduce_max_ps(most) - low;
  scale = range > 0 ? range / 255.0f : 1.0f;
  const __m512 lows = _mm512_set1_ps(low);
  const __m512 inverse = _mm512_set1_ps(1.0f / scale);
  for_vectors(width, [&](std::int64_t c, __mmask16 lanes) {
    const __m512 steps = _mm512_mul_ps(_mm512_sub_ps(load_bf16(x + c, lanes), lows), inverse);
    _mm512_mask_cvtusepi32_storeu_epi8(out + c, lanes, _mm512_cvtps_epi32(steps));  // to nearest, saturating
  });
}

}  // namespace

void layer_norm_avx512(const InputRows& x, std::int64_t width, const NormWeights& weights,
                       const OutputRows& out) {
  for (std::int64_t row = 0; row < x.rows; ++row)
    norm_row(x.data + row * x.stride, width, weights, out.data + row * out.stride);
}

void quantize_rows_avx512(const InputRows& x, std::int64_t width, const QuantizedRows& out) {
  const std::int64_t groups = int8_groups(width);
  for (std::int64_t row = 0; row < x.rows; ++row)
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::int64_t first = group * kInt8Group, left = width - first, at = row * groups + group;
      quantize_group(x.data + row * x.stride + first, left < kInt8Group ? left : kInt8Group,
                     out.data + row * width + first, out.scale[at], out.low[at]);
    }
}

const CpuKernels kAvx512Kernels = {
    .name = "avx512-bf16",
    .linear_bf16 = linear_bf16_avx512,
    .linear_int8 = linear_int8_avx512,
    .quantize_rows = quantize_rows_avx512,
    .layer_norm = layer_norm_avx512,
    .attend_head = attend_head_avx512,
    .convolve_bf16 = convolve_bf16_avx512,
    .linear_gated_bf16 = linear_gated_bf16_avx512,
    .group_norm_bf16 = group_norm_bf16_avx512,
    .group_norm_fp32 = group_norm_fp32_avx512,
};

}  // namespace muster::nn::kernels
