// SPDX-License-Identifier: Apache-2.0
// Products with prepacked weights: a block of rows by a panel of columns stays in registers over the whole
// input width.
#include "nn/kernels/avx512/epilogue.h"
#include "nn/kernels/avx512/kernels.h"
#include "nn/kernels/avx512/row_blocks.h"

namespace muster::nn::kernels {
namespace {

// Rows whose inputs stay in the second-level cache while the panels pass by.
constexpr std::int64_t kCachedRows = 256;

constexpr std::int64_t whole_vectors(std::int64_t columns) {
  return (columns + kLanes - 1) / kLanes * kLanes;
}

struct Bf16Product {
  const PanelsBf16& weights;
  const InputRows& x;
  const Epilogue& epilogue;
  const OutputRows& out;

  template <int Rows, int Vectors>
  void operator()(const Block& block) const {
    __m512 sum[Rows][Vectors];
    multiply(x.data + block.row * x.stride, x.stride, weights.data + block.column * weights.in,
             weights.in / 2, sum);
    finish(sum, block, epilogue, out);
  }
};

struct Int8Product {
  const PanelsInt8& weights;
  const QuantizedRows& x;
  const Epilogue& epilogue;
  const OutputRows& out;

  template <int Rows, int Vectors>
  void operator()(const Block& block) const {
    const std::int64_t groups = int8_groups(weights.in);
    const std::int64_t columns = whole_vectors(weights.out);
    const std::uint8_t* rows = x.data + block.row * weights.in;
    const std::int8_t* panel = weights.data + block.column * weights.in;
    __m512 product[Rows][Vectors] = {};
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::int64_t first = group * kInt8Group, left = weights.in - first;
      __m512i sum[Rows][Vectors];
      multiply(rows + first, weights.in, panel + first * Vectors * kLanes,
               (left < kInt8Group ? left : kInt8Group) / 4, sum);
      const float* scale = weights.scale + group * columns + block.column;
      const float* column_sum = weights.column_sum + group * columns + block.column;
      for (int r = 0; r < Rows; ++r) {
        const std::int64_t at = (block.row + r) * groups + group;
        const __m512 row_scale = _mm512_set1_ps(x.scale[at]), row_low = _mm512_set1_ps(x.low[at]);
        for (int v = 0; v < Vectors; ++v) {
          const __m512 scaled =
              _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][v]), _mm512_loadu_ps(scale + v * kLanes));
          product[r][v] = _mm512_fmadd_ps(row_low, _mm512_loadu_ps(column_sum + v * kLanes), product[r][v]);
          product[r][v] = _mm512_fmadd_ps(row_scale, scaled, product[r][v]);
        }
      }
    }
    finish(product, block, epilogue, out);
  }
};

// A vector of hidden columns and its gates.
struct GatedProduct {
  const PanelsBf16& weights;
  const InputRows& x;
  const Epilogue& epilogue;
  const OutputRows& out;

  template <int Rows, int Vectors>
  void operator()(const Block& block) const {
    __m512 sum[Rows][Vectors];
    multiply(x.data + block.row * x.stride, x.stride, weights.data + block.column * weights.in,
             weights.in / 2, sum);
    const __m512 bias = _mm512_loadu_ps(epilogue.bias + block.column);
    const __m512 gate_bias = _mm512_loadu_ps(epilogue.bias + block.column + kLanes);
    for (int r = 0; r < Rows; ++r)
      store_bf16(out.data + (block.row + r) * out.stride + block.column / 2,
                 _mm512_mul_ps(_mm512_add_ps(sum[r][0], bias),
                               gelu(_mm512_add_ps(sum[r][1], gate_bias), *epilogue.gelu)));
  }
};

template <int Vectors, typename Product>
void run_panel(const Product& product, std::int64_t first, std::int64_t last, Block block) {
  for_row_blocks(last - first, [&]<int Rows>(RowCount<Rows>, std::int64_t row) {
    block.row = first + row;
    product.template operator()<Rows, Vectors>(block);
  });
}

template <typename Product>
void run(const Product& product, std::int64_t rows, std::int64_t columns) {
  for (std::int64_t first = 0; first < rows; first += kCachedRows) {
    const std::int64_t last = first + kCachedRows < rows ? first + kCachedRows : rows;
    for (std::int64_t column = 0; column < columns; column += kPanelColumns) {
      const std::int64_t left = columns - column;
      const Block block{0, column, left < kPanelColumns ? left : kPanelColumns};
      if (block.columns > 2 * kLanes)
        run_panel<3>(product, first, last, block);
      else if (block.columns > kLanes)
        run_panel<2>(product, first, last, block);
      else
        run_panel<1>(product, first, last, block);
    }
  }
}

}  // namespace

void linear_bf16_avx512(const PanelsBf16& weights, const InputRows& x, const Epilogue& epilogue,
                        const OutputRows& out) {
  run(Bf16Product{weights, x, epilogue, out}, x.rows, weights.out);
}

void linear_gated_bf16_avx512(const PanelsBf16& weights, const InputRows& x, const Epilogue& epilogue,
                              const OutputRows& out) {
  const GatedProduct product{weights, x, epilogue, out};
  for (std::int64_t first = 0; first < x.rows; first += kCachedRows) {
    const std::int64_t last = first + kCachedRows < x.rows ? first + kCachedRows : x.rows;
    for (std::int64_t column = 0; column < weights.out; column += kGatedColumns)
      run_panel<2>(product, first, last, {0, column, kGatedColumns});
  }
}

void linear_int8_avx512(const PanelsInt8& weights, const QuantizedRows& x, std::int64_t rows,
                        const Epilogue& epilogue, const OutputRows& out) {
  run(Int8Product{weights, x, epilogue, out}, rows, weights.out);
}

}  // namespace muster::nn::kernels
