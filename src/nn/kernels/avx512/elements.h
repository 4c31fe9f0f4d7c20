// SPDX-License-Identifier: Apache-2.0
// Sixteen elements in memory, of either type, as fp32 in a register.
#pragma once
#include "nn/kernels/avx512/math.h"

namespace muster::nn::kernels {
namespace {

inline __m512 load(const Bf16* from, __mmask16 lanes) {
  return load_bf16(from, lanes);
}
inline __m512 load(const float* from, __mmask16 lanes) {
  return _mm512_maskz_loadu_ps(lanes, from);
}
inline void store(Bf16* to, __m512 x) {
  store_bf16(to, x);
}
inline void store(float* to, __m512 x) {
  _mm512_storeu_ps(to, x);
}
inline void store(Bf16* to, __m512 x, __mmask16 lanes) {
  store_bf16(to, x, lanes);
}
inline void store(float* to, __m512 x, __mmask16 lanes) {
  _mm512_mask_storeu_ps(to, lanes, x);
}

inline __mmask16 lanes_of(std::int64_t left) {
  return left >= kLanes ? __mmask16(0xffff) : first_lanes(left);
}

// Calls `work(first, lanes)` for whole vectors and a masked last one.
template <typename Work>
inline void for_vectors(std::int64_t count, const Work& work) {
  std::int64_t first = 0;
  for (; first + kLanes <= count; first += kLanes) work(first, __mmask16(0xffff));
  if (first < count) work(first, first_lanes(count - first));
}

// Sixteen bits from bit `first` on; reads four bytes.
inline __mmask16 sixteen_bits(const std::uint8_t* bits, std::int64_t first) {
  std::uint32_t word;
  __builtin_memcpy(&word, bits + first / 8, sizeof word);
  return static_cast<__mmask16>(word >> (first % 8));
}

// 16 x 16 words of 32 bits across the diagonal.
inline void transpose(__m512i (&rows)[16]) {
  __m512i t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 2; ++j) {
      rows[4 * i + 2 * j] = _mm512_unpacklo_epi64(t[4 * i + j], t[4 * i + 2 + j]);
      rows[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(t[4 * i + j], t[4 * i + 2 + j]);
    }
  for (int i = 0; i < 4; ++i) {  // rows[4g + i] holds, per 128-bit lane l, word 4l + i of rows 4g .. 4g + 3
    const __m512i a = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88);
    const __m512i b = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
    const __m512i c = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
    const __m512i d = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
    t[i] = _mm512_shuffle_i32x4(a, b, 0x88);
    t[8 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
    t[4 + i] = _mm512_shuffle_i32x4(c, d, 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(c, d, 0xdd);
  }
  for (int i = 0; i < 16; ++i) rows[i] = t[i];
}

}  // namespace
}  // namespace muster::nn::kernels
