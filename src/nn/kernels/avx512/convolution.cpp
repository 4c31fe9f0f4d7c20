// SPDX-License-Identifier: Apache-2.0
// Convolution as a product: a row is an output pixel, its inputs those of one tap after another, read where
// they lie in the picture. Blocks are summed in registers over some taps at a time, whose part of a panel
// stays in the cache while the rows pass by, and rest in memory in between.
#include "nn/kernels/avx512/elements.h"
#include "nn/kernels/avx512/epilogue.h"
#include "nn/kernels/avx512/kernels.h"
#include "nn/kernels/avx512/row_blocks.h"

namespace muster::nn::kernels {
namespace {

// Of a panel, what stays in the cache.
constexpr std::int64_t kCachedPanelBytes = 128 << 10;

// The output pixels computed together.
struct Pixels {
  std::int64_t first = 0, count = 0;
  std::int32_t sample[kConvolutionRows];
  std::int32_t y[kConvolutionRows];  // of the first tap, in the input
  std::int32_t x[kConvolutionRows];

  Pixels(const ConvolutionBf16& c, std::int64_t first_pixel, std::int64_t pixels)
      : first(first_pixel), count(pixels) {
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t pixel = first + i, row = pixel / c.out_width;
      sample[i] = static_cast<std::int32_t>(row / c.out_height);
      y[i] = static_cast<std::int32_t>(row % c.out_height * c.stride - c.padding);
      x[i] = static_cast<std::int32_t>(pixel % c.out_width * c.stride - c.padding);
    }
  }
};

// Taps [first, last) of a panel.
struct Taps {
  std::int64_t first = 0, last = 0;
};

template <int Rows, int Vectors>
inline __attribute__((always_inline)) void add_tap(const Bf16* const (&rows)[Rows], const Bf16* panel,
                                                   std::int64_t pairs, __m512 (&result)[Rows][Vectors]) {
  __m512 sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sum[r][v] = result[r][v];
  for (std::int64_t pair = 0; pair < pairs; ++pair, panel += Vectors * kLanes * 2) {
    __m512i column[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) column[v] = _mm512_loadu_si512(panel + v * kLanes * 2);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const __m512i row = _mm512_set1_epi32(load_int32(rows[r] + 2 * pair));
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) add_products(sum[r][v], row, column[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) result[r][v] = sum[r][v];
}

// Sums of a block between taps: [row][48] in memory.
template <int Rows, int Vectors>
inline void load_sums(const float* from, __m512 (&sum)[Rows][Vectors]) {
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_load_ps(from + r * kPanelColumns + v * kLanes);
}
template <int Rows, int Vectors>
inline void store_sums(const __m512 (&sum)[Rows][Vectors], float* to) {
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < Vectors; ++v) _mm512_store_ps(to + r * kPanelColumns + v * kLanes, sum[r][v]);
}

struct Convolver {
  const ConvolutionBf16& c;
  const Epilogue& epilogue;
  const OutputRows& out;
  float* sums;  // [rows of the group][48]

  const Bf16* input(const Pixels& pixels, std::int64_t i, std::int64_t tap) const {
    const std::int64_t y = pixels.y[i] + tap / c.kernel, x = pixels.x[i] + tap % c.kernel;
    if (y < 0 || y >= c.height || x < 0 || x >= c.width) return c.zeros;
    return c.x + ((pixels.sample[i] * c.height + y) * c.width + x) * c.channels;
  }

  template <int Rows, int Vectors>
  void block(const Pixels& pixels, std::int64_t i, std::int64_t column, Taps taps) const {
    __m512 sum[Rows][Vectors] = {};
    if (taps.first > 0) load_sums(sums + i * kPanelColumns, sum);
    const Bf16* panel = c.weights.data + column * c.weights.in;
    for (std::int64_t tap = taps.first; tap < taps.last; ++tap) {
      const Bf16* rows[Rows];
      for (int r = 0; r < Rows; ++r) rows[r] = input(pixels, i + r, tap);
      add_tap(rows, panel + tap * c.channels * Vectors * kLanes, c.channels / 2, sum);
    }
    if (taps.last < c.kernel * c.kernel) return store_sums(sum, sums + i * kPanelColumns);
    const std::int64_t left = c.weights.out - column;
    finish(sum, {pixels.first + i, column, left < kPanelColumns ? left : kPanelColumns}, epilogue, out);
  }

  template <int Vectors>
  void panel(const Pixels& pixels, std::int64_t column) const {
    const std::int64_t tap_bytes = c.channels * Vectors * kLanes * std::int64_t{sizeof(Bf16)};
    const std::int64_t fitting = kCachedPanelBytes / tap_bytes, step = fitting < 1 ? 1 : fitting;
    const std::int64_t all = c.kernel * c.kernel;
    for (std::int64_t first = 0; first < all; first += step) {
      const Taps taps{first, first + step < all ? first + step : all};
      for_row_blocks(pixels.count, [&]<int Rows>(RowCount<Rows>, std::int64_t i) {
        block<Rows, Vectors>(pixels, i, column, taps);
      });
    }
  }

  void run(const Pixels& pixels) const {
    for (std::int64_t column = 0; column < c.weights.out; column += kPanelColumns) {
      const std::int64_t left = c.weights.out - column;
      if (left > 2 * kLanes)
        panel<3>(pixels, column);
      else if (left > kLanes)
        panel<2>(pixels, column);
      else
        panel<1>(pixels, column);
    }
  }
};

}  // namespace

void convolve_bf16_avx512(const ConvolutionBf16& c, const Epilogue& epilogue, const OutputRows& out,
                          float* scratch) {
  const std::int64_t pixels = c.samples * c.out_height * c.out_width;
  const Convolver convolver{c, epilogue, out, scratch};
  for (std::int64_t first = 0; first < pixels; first += kConvolutionRows)
    convolver.run(Pixels(c, first, pixels - first < kConvolutionRows ? pixels - first : kConvolutionRows));
}

}  // namespace muster::nn::kernels
