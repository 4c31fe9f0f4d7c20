// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <immintrin.h>

#include "nn/kernels/cpu_kernels.h"

namespace muster::nn::kernels {
namespace {

constexpr std::int64_t kLanes = 16;

inline __m512 widen(__m256i bf16) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16));
}

inline __m512 load_bf16(const Bf16* from) {
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

inline __m512 load_bf16(const Bf16* from, __mmask16 lanes) {
  return widen(_mm256_maskz_loadu_epi16(lanes, from));
}

inline void store_bf16(Bf16* to, __m512 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(x));
}

inline void store_bf16(Bf16* to, __m512 x, __mmask16 lanes) {
  _mm256_mask_storeu_epi16(to, lanes, (__m256i)_mm512_cvtneps_pbh(x));
}

// The first `count` lanes, count <= 16.
inline __mmask16 first_lanes(std::int64_t count) {
  return static_cast<__mmask16>((1u << count) - 1u);
}

// 2^x: whole part into the exponent, the rest by a polynomial with relative error 8e-8.
inline __m512 exp2_of(__m512 x) {
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 rest = _mm512_sub_ps(x, whole);
  __m512 y = _mm512_set1_ps(0.00132763118f);
  y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(0.00967554003f));
  y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(0.0555071384f));
  y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(0.240221202f));
  y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(0.693146944f));
  y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(1.00000012f));
  return _mm512_scalef_ps(y, whole);
}

inline __m512 sigmoid(__m512 x) {
  const __m512 inverse = exp2_of(_mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f)));
  return _mm512_div_ps(_mm512_set1_ps(1), _mm512_add_ps(_mm512_set1_ps(1), inverse));
}

// The tanh approximation: x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)).
inline __m512 gelu_tanh(__m512 x) {
  const __m512 cubic = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f), _mm512_set1_ps(1));
  return _mm512_mul_ps(x, sigmoid(_mm512_mul_ps(_mm512_mul_ps(x, cubic), _mm512_set1_ps(1.59576912f))));
}

// Phi(x) - 0.5, Phi the normal distribution function, by table.
inline __m512 half_erf(__m512 x, const GeluTable& table) {
  const __m512 size = _mm512_min_ps(_mm512_abs_ps(x), _mm512_set1_ps(kGeluEnd * (1.0f - 1e-7f)));
  const __m512 place = _mm512_mul_ps(size, _mm512_set1_ps(kGeluPieces / kGeluEnd));
  const __m512i piece = _mm512_cvttps_epi32(place);
  const __m512 middle = _mm512_add_ps(_mm512_cvtepi32_ps(piece), _mm512_set1_ps(0.5f));
  const __m512 rest = _mm512_sub_ps(place, middle);
  __m512 y = _mm512_permutexvar_ps(piece, _mm512_load_ps(table.coefficients[4]));
  for (int order = 3; order >= 0; --order)
    y = _mm512_fmadd_ps(y, rest, _mm512_permutexvar_ps(piece, _mm512_load_ps(table.coefficients[order])));
  const __m512i sign = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN));
  return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(y), sign));
}

// x * Phi(x) (Hendrycks and Gimpel, 2016).
inline __m512 gelu(__m512 x, const GeluTable& table) {
  return _mm512_fmadd_ps(x, half_erf(x, table), _mm512_mul_ps(x, _mm512_set1_ps(0.5f)));
}

// Phi(x) + x * phi(x), phi the normal density.
inline __m512 gelu_slope(__m512 x, const GeluTable& table) {
  const __m512 power = _mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.72134752f));  // log2(e) / 2
  const __m512 density = _mm512_mul_ps(exp2_of(power), _mm512_set1_ps(0.39894228f));
  return _mm512_fmadd_ps(x, density, _mm512_add_ps(half_erf(x, table), _mm512_set1_ps(0.5f)));
}

}  // namespace
}  // namespace muster::nn::kernels
