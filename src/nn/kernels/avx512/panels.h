// SPDX-License-Identifier: Apache-2.0
// Packing both sides of products whose operands are activations or weights as they lie in memory.
#pragma once
#include "nn/kernels/avx512/elements.h"
#include "nn/kernels/training_kernels.h"

namespace muster::nn::kernels {
namespace {

constexpr std::int64_t whole(std::int64_t size, std::int64_t step) {
  return (size + step - 1) / step * step;
}

// 32-bit words: `count` <= 16 groups of neighbouring elements, zero behind them.
inline __m512i load_groups(const float* from, std::int64_t elements) {
  return _mm512_castps_si512(load(from, lanes_of(elements)));
}
inline __m512i load_groups(const Bf16* from, std::int64_t elements) {
  if (elements >= 2 * kLanes) return _mm512_loadu_si512(from);
  return _mm512_maskz_loadu_epi16((__mmask32{1} << elements) - 1, from);
}

// Sixteen columns of a group of rows as 32-bit words; rows behind the last are zero.
inline __m512i join_rows(const float* row, std::int64_t, std::int64_t, __mmask16 lanes) {
  return _mm512_castps_si512(_mm512_maskz_loadu_ps(lanes, row));
}
inline __m512i join_rows(const Bf16* row, std::int64_t stride, std::int64_t rows, __mmask16 lanes) {
  const __m512i first = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, row));
  if (rows < 2) return first;
  const __m512i second = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, row + stride));
  return _mm512_or_si512(first, _mm512_slli_epi32(second, 16));
}

// Where column `column`'s vector begins in panels of `PanelColumns`, and the elements from group to group.
template <std::int64_t PanelColumns, typename Element>
struct PanelPlace {
  Element* data;
  std::int64_t step;

  PanelPlace(const Panels<Element>& panels, std::int64_t column) {
    constexpr std::int64_t kGroup = kDepthGroup<Element>;
    const std::int64_t panel = column / PanelColumns * PanelColumns;
    const std::int64_t left = whole(panels.columns, kLanes) - panel;
    step = (left < PanelColumns ? left : PanelColumns) * kGroup;
    data = panels.data + panel * panels.depth + (column - panel) * kGroup;
  }
};

template <std::int64_t PanelColumns, typename Element>
inline void pack_transposed(const Matrix<const Element>& from, const Panels<Element>& to) {
  constexpr std::int64_t kGroup = kDepthGroup<Element>;
  for (std::int64_t column = 0; column < to.columns; column += kLanes) {
    const PanelPlace<PanelColumns, Element> place(to, column);
    for (std::int64_t k = 0; k < to.depth; k += kLanes * kGroup) {
      __m512i words[16];
      for (std::int64_t i = 0; i < kLanes; ++i)
        words[i] = column + i < from.rows
                       ? load_groups(from.data + (column + i) * from.stride + k, from.columns - k)
                       : _mm512_setzero_si512();
      transpose(words);
      const std::int64_t groups = (to.depth - k) / kGroup;
      for (std::int64_t i = 0; i < kLanes && i < groups; ++i)
        _mm512_storeu_si512(place.data + (k / kGroup + i) * place.step, words[i]);
    }
  }
}

template <std::int64_t PanelColumns, typename Element>
inline void pack(const Matrix<const Element>& from, const Panels<Element>& to, std::int64_t first) {
  constexpr std::int64_t kGroup = kDepthGroup<Element>;
  constexpr std::int64_t kRowsAtOnce = 32;  // so that reading and writing both stay near
  for (std::int64_t begin = 0; begin < from.rows; begin += kRowsAtOnce) {
    const std::int64_t end = begin + kRowsAtOnce < from.rows ? begin + kRowsAtOnce : from.rows;
    for (std::int64_t column = 0; column < to.columns; column += kLanes) {
      const PanelPlace<PanelColumns, Element> place(to, column);
      const __mmask16 lanes = lanes_of(to.columns - column);
      for (std::int64_t row = begin; row < end; row += kGroup)
        _mm512_storeu_si512(
            place.data + (first + row) / kGroup * place.step,
            join_rows(from.data + row * from.stride + column, from.stride, from.rows - row, lanes));
    }
  }
}

template <typename Element>
inline void transpose_matrix(const Matrix<const Element>& from, Element* to, std::int64_t stride) {
  constexpr std::int64_t kGroup = kDepthGroup<Element>;
  for (std::int64_t row = 0; row < from.rows; row += kLanes * kGroup) {
    const std::int64_t groups = (from.rows - row + kGroup - 1) / kGroup;
    for (std::int64_t column = 0; column < from.columns; column += kLanes) {
      const __mmask16 lanes = lanes_of(from.columns - column);
      __m512i words[16];
      for (std::int64_t i = 0; i < kLanes; ++i) {
        const std::int64_t at = row + i * kGroup;
        words[i] = i < groups
                       ? join_rows(from.data + at * from.stride + column, from.stride, from.rows - at, lanes)
                       : _mm512_setzero_si512();
      }
      transpose(words);
      for (std::int64_t i = 0; i < kLanes && column + i < from.columns; ++i)
        _mm512_mask_storeu_epi32(to + (column + i) * stride + row, lanes_of(groups), words[i]);
    }
  }
}

}  // namespace
}  // namespace muster::nn::kernels
