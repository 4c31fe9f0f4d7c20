// SPDX-License-Identifier: Apache-2.0
// Group norm and an activation over a picture whose channels lie together: two passes for the statistics, one
// for the result.
#include "nn/kernels/avx512/elements.h"
#include "nn/kernels/avx512/kernels.h"

namespace muster::nn::kernels {
namespace {

// Pixels summed in fp32 before the sum goes on in double precision.
constexpr std::int64_t kBlockPixels = 128;

// sums[channel] = sum over pixels of what `term` makes of sixteen elements.
template <typename Element, typename Term>
void sum_pixels(const GroupNormShape& shape, const Element* x, double* sums, const Term& term) {
  for (std::int64_t c = 0; c < shape.channels; ++c) sums[c] = 0;
  for (std::int64_t first = 0; first < shape.pixels; first += kBlockPixels) {
    const std::int64_t left = shape.pixels - first, count = left < kBlockPixels ? left : kBlockPixels;
    const Element* rows = x + first * shape.channels;
    for_vectors(shape.channels, [&](std::int64_t c, __mmask16 lanes) {
      __m512 sum = _mm512_setzero_ps();
      for (std::int64_t i = 0; i < count; ++i)
        sum = _mm512_add_ps(sum, term(load(rows + i * shape.channels + c, lanes), c, lanes));
      alignas(64) float block[kLanes];
      _mm512_store_ps(block, sum);
      const std::int64_t columns = shape.channels - c < kLanes ? shape.channels - c : kLanes;
      for (std::int64_t i = 0; i < columns; ++i) sums[c + i] += block[i];
    });
  }
}

// A group's mean of sums, for each of its channels.
template <typename Make>
void spread_means(const GroupNormShape& shape, const double* sums, const Make& make) {
  const std::int64_t width = shape.channels / shape.groups;
  for (std::int64_t group = 0; group < shape.groups; ++group) {
    double sum = 0;
    for (std::int64_t c = group * width; c < (group + 1) * width; ++c) sum += sums[c];
    const double mean = sum / static_cast<double>(width * shape.pixels);
    for (std::int64_t c = group * width; c < (group + 1) * width; ++c) make(c, mean);
  }
}

template <typename Element>
void group_norm(const GroupNormShape& shape, const Element* x, Element* out, double* scratch) {
  double* sums = scratch;
  auto* means = reinterpret_cast<float*>(scratch + shape.channels);
  float* factors = means + shape.channels;
  sum_pixels(shape, x, sums, [](__m512 value, std::int64_t, __mmask16) { return value; });
  spread_means(shape, sums, [&](std::int64_t c, double mean) { means[c] = static_cast<float>(mean); });
  sum_pixels(shape, x, sums, [&](__m512 value, std::int64_t c, __mmask16 lanes) {
    const __m512 d = _mm512_sub_ps(value, _mm512_maskz_loadu_ps(lanes, means + c));
    return _mm512_mul_ps(d, d);
  });
  spread_means(shape, sums, [&](std::int64_t c, double variance) {
    factors[c] = shape.gamma[c] / __builtin_sqrtf(static_cast<float>(variance) + shape.epsilon);
  });
  for (std::int64_t i = 0; i < shape.pixels; ++i) {
    const Element* from = x + i * shape.channels;
    Element* to = out + i * shape.channels;
    for_vectors(shape.channels, [&](std::int64_t c, __mmask16 lanes) {
      const __m512 d = _mm512_sub_ps(load(from + c, lanes), _mm512_maskz_loadu_ps(lanes, means + c));
      __m512 y = _mm512_fmadd_ps(d, _mm512_maskz_loadu_ps(lanes, factors + c),
                                 _mm512_maskz_loadu_ps(lanes, shape.beta + c));
      if (shape.silu) y = _mm512_mul_ps(y, sigmoid(y));
      store(to + c, y, lanes);
    });
  }
}

}  // namespace

void group_norm_bf16_avx512(const GroupNormShape& shape, const Bf16* x, Bf16* out, double* scratch) {
  group_norm(shape, x, out, scratch);
}

void group_norm_fp32_avx512(const GroupNormShape& shape, const float* x, float* out, double* scratch) {
  group_norm(shape, x, out, scratch);
}

}  // namespace muster::nn::kernels
