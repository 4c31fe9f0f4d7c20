// SPDX-License-Identifier: Apache-2.0
// The fp32 product for processors without AVX-512, where oneDNN's rounds a row by its place among the others.
#include <immintrin.h>

#include "nn/kernels/cpu_kernels.h"

namespace muster::nn::kernels {
namespace {

constexpr int kVectors = 2;
constexpr std::int64_t kLanes = 8;
static_assert(kPanelColumnsFp32 == kVectors * kLanes);

// Rows [row, row + Rows) of one panel: 6 rows x 2 vectors leave room for a row's value and the panel's two.
template <int Rows>
void multiply_block(const ProductFp32& product, std::int64_t row, std::int64_t column) {
  const float* x = product.x + row * product.in;
  const float* panel = product.panels + column * product.in;
  __m256 sum[Rows][kVectors];
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm256_setzero_ps();
  for (std::int64_t k = 0; k < product.in; ++k, panel += kVectors * kLanes) {
    const __m256 first = _mm256_loadu_ps(panel), second = _mm256_loadu_ps(panel + kLanes);
    for (int r = 0; r < Rows; ++r) {
      const __m256 value = _mm256_broadcast_ss(x + r * product.in + k);
      sum[r][0] = _mm256_fmadd_ps(value, first, sum[r][0]);
      sum[r][1] = _mm256_fmadd_ps(value, second, sum[r][1]);
    }
  }
  alignas(32) float result[kVectors * kLanes];
  const std::int64_t left = product.out - column;
  const std::int64_t columns = left < kPanelColumnsFp32 ? left : kPanelColumnsFp32;
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < kVectors; ++v)
      _mm256_store_ps(result + v * kLanes,
                      _mm256_add_ps(sum[r][v], _mm256_loadu_ps(product.bias + column + v * kLanes)));
    const std::int64_t at = (row + r) * product.out + column;
    for (std::int64_t c = 0; c < columns; ++c)
      product.y[at + c] = product.residual ? result[c] + product.residual[at + c] : result[c];
  }
}

void multiply_panel(const ProductFp32& product, std::int64_t column) {
  std::int64_t row = 0;
  for (; row + 6 <= product.rows; row += 6) multiply_block<6>(product, row, column);
  for (; row + 2 <= product.rows; row += 2) multiply_block<2>(product, row, column);
  if (row < product.rows) multiply_block<1>(product, row, column);
}

}  // namespace

void linear_fp32_avx2(const ProductFp32& product) {
  for (std::int64_t column = 0; column < product.out; column += kPanelColumnsFp32)
    multiply_panel(product, column);
}

}  // namespace muster::nn::kernels
