// SPDX-License-Identifier: Apache-2.0
// A block of rows by a panel of columns, summed in registers over the whole depth; bf16 and fp32 alike.
#pragma once
#include "nn/kernels/avx512/elements.h"
#include "nn/kernels/avx512/row_blocks.h"
#include "nn/kernels/training_kernels.h"

namespace muster::nn::kernels {
namespace {

inline void add_groups(__m512& sum, const Bf16* left, __m512i right) {
  add_products(sum, _mm512_set1_epi32(load_int32(left)), right);
}
inline void add_groups(__m512& sum, const float* left, __m512i right) {
  sum = _mm512_fmadd_ps(_mm512_set1_ps(*left), _mm512_castsi512_ps(right), sum);
}

template <typename Element, int Rows, int Vectors>
inline __attribute__((always_inline)) void multiply_block(const Element* left, std::int64_t stride,
                                                          const Element* panel, std::int64_t depth,
                                                          __m512 (&product)[Rows][Vectors]) {
  constexpr std::int64_t kGroup = kDepthGroup<Element>;
  __m512 sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_setzero_ps();
  for (std::int64_t k = 0; k < depth; k += kGroup, panel += Vectors * kLanes * kGroup) {
    __m512i column[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) column[v] = _mm512_loadu_si512(panel + v * kLanes * kGroup);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) add_groups(sum[r][v], left + r * stride + k, column[v]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) product[r][v] = sum[r][v];
}

}  // namespace
}  // namespace muster::nn::kernels
