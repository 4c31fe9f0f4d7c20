// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <immintrin.h>

#include "nn/kernels/avx512/math.h"

namespace muster::nn::kernels {
namespace {

template <int Rows>
struct RowCount {};

// Calls `work(RowCount<n>, first row)` for blocks of 8 rows, and of 4, 2 and 1 for the rest.
template <typename Work>
inline void for_row_blocks(std::int64_t rows, const Work& work) {
  std::int64_t row = 0;
  for (; row + 8 <= rows; row += 8) work(RowCount<8>(), row);
  if (rows - row >= 4) {
    work(RowCount<4>(), row);
    row += 4;
  }
  if (rows - row >= 2) {
    work(RowCount<2>(), row);
    row += 2;
  }
  if (rows > row) work(RowCount<1>(), row);
}

inline std::int32_t load_int32(const void* from) {
  std::int32_t value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

// GCC 12 copies and spills the sums around the intrinsics of these two instructions; "+v" keeps each where it
// is.
inline void add_products(__m512& sum, __m512i row, __m512i column) {
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(row), "v"(column));
}
inline void add_products(__m512i& sum, __m512i row, __m512i column) {  // row unsigned, column signed bytes
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(row), "v"(column));
}

// product = a [Rows, groups] times a panel [groups][Vectors * 16]; a group is 32 bits: two bf16 or four bytes
// of neighbouring inputs. The sums are a local array, which only registers hold; the result's address is
// given away.
template <typename Input, typename Weight, typename Vector, int Rows, int Vectors>
inline __attribute__((always_inline)) void multiply(const Input* a, std::int64_t stride, const Weight* panel,
                                                    std::int64_t groups, Vector (&product)[Rows][Vectors]) {
  constexpr std::int64_t kGroup = sizeof(std::int32_t) / sizeof(Input);
  Vector sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sum[r][v] = Vector{};
  for (std::int64_t group = 0; group < groups; ++group, panel += Vectors * kLanes * kGroup) {
    __m512i column[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) column[v] = _mm512_loadu_si512(panel + v * kLanes * kGroup);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const __m512i row = _mm512_set1_epi32(load_int32(a + r * stride + kGroup * group));
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) add_products(sum[r][v], row, column[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) product[r][v] = sum[r][v];
}

}  // namespace
}  // namespace muster::nn::kernels
