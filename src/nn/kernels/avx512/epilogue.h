// SPDX-License-Identifier: Apache-2.0
// What happens to a block of a product on its way to memory.
#pragma once
#include "nn/kernels/avx512/math.h"

namespace muster::nn::kernels {
namespace {

// What a block of the result needs to know of its surroundings.
struct Block {
  std::int64_t row = 0;      // first row
  std::int64_t column = 0;   // first column
  std::int64_t columns = 0;  // that exist, at most 48
};

inline __m512 activate(__m512 y, const Epilogue& epilogue) {
  switch (epilogue.activation) {
    case LinearActivation::kIdentity:
      break;
    case LinearActivation::kRelu:
      return _mm512_max_ps(y, _mm512_setzero_ps());
    case LinearActivation::kGelu:
      return gelu(y, *epilogue.gelu);
    case LinearActivation::kGeluTanh:
      return gelu_tanh(y);
    case LinearActivation::kQuickGelu:
      return _mm512_mul_ps(y, sigmoid(_mm512_mul_ps(y, _mm512_set1_ps(1.702f))));
    case LinearActivation::kSilu:
      return _mm512_mul_ps(y, sigmoid(y));
    case LinearActivation::kTanh:
      return _mm512_fmsub_ps(_mm512_set1_ps(2), sigmoid(_mm512_add_ps(y, y)), _mm512_set1_ps(1));
    case LinearActivation::kSigmoid:
      return sigmoid(y);
  }
  return y;
}

template <int Rows, int Vectors>
inline void finish(const __m512 (&sum)[Rows][Vectors], const Block& block, const Epilogue& epilogue,
                   const OutputRows& out) {
  for (int v = 0; v < Vectors; ++v) {
    const std::int64_t column = block.column + v * kLanes;
    const std::int64_t left = block.columns - v * kLanes;
    const __mmask16 lanes = left >= kLanes ? __mmask16(0xffff) : first_lanes(left);
    const __m512 bias = _mm512_loadu_ps(epilogue.bias + column);
    for (int r = 0; r < Rows; ++r) {
      __m512 y = _mm512_add_ps(sum[r][v], bias);
      if (epilogue.shift)
        y = _mm512_add_ps(
            y,
            load_bf16(epilogue.shift + (block.row + r) / epilogue.shift_rows * epilogue.shift_stride + column,
                      lanes));
      y = activate(y, epilogue);
      if (epilogue.residual)
        y = _mm512_add_ps(
            y, load_bf16(epilogue.residual + (block.row + r) * epilogue.residual_stride + column, lanes));
      store_bf16(out.data + (block.row + r) * out.stride + column, y, lanes);
    }
  }
}

}  // namespace
}  // namespace muster::nn::kernels
