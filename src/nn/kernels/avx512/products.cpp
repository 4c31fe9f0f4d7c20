// SPDX-License-Identifier: Apache-2.0
// Products of training, in bf16 and fp32: a block of rows by a panel of columns stays in registers over the
// whole depth.
#include "nn/kernels/avx512/panels.h"
#include "nn/kernels/avx512/product_block.h"
#include "nn/kernels/avx512/training.h"

namespace muster::nn::kernels {
namespace {

// Of the left side, what stays in the second-level cache while the panels pass by.
constexpr std::int64_t kCachedBytes = 384 << 10;

template <typename Element, int Rows, int Vectors>
void block(const PanelProduct<Element>& product, std::int64_t row, std::int64_t column) {
  __m512 sum[Rows][Vectors];
  multiply_block(product.left.data + row * product.left.stride, product.left.stride,
                 product.right.data + column * product.right.depth, product.right.depth, sum);
  for (int v = 0; v < Vectors; ++v) {
    const std::int64_t first = column + v * kLanes;
    const __mmask16 lanes = lanes_of(product.right.columns - first);
    const __m512 bias = product.bias ? _mm512_loadu_ps(product.bias + first) : _mm512_setzero_ps();
    for (int r = 0; r < Rows; ++r) {
      const std::int64_t place = (row + r) * product.out_stride + first;
      const __m512 y = _mm512_add_ps(sum[r][v], bias);
      store(product.out + place, y, lanes);
      if (product.gelu) store(product.gelu + place, gelu(y, *product.table), lanes);
    }
  }
}

template <typename Element, int Vectors>
void run_panel(const PanelProduct<Element>& product, std::int64_t first, std::int64_t last,
               std::int64_t column) {
  for_row_blocks(last - first, [&]<int Rows>(RowCount<Rows>, std::int64_t row) {
    block<Element, Rows, Vectors>(product, first + row, column);
  });
}

template <typename Element>
void multiply_all(const PanelProduct<Element>& product) {
  const std::int64_t row_bytes = product.right.depth * std::int64_t{sizeof(Element)};
  const std::int64_t fitting = kCachedBytes / (row_bytes > 0 ? row_bytes : 1) / 8 * 8;
  const std::int64_t step = fitting < 64 ? 64 : fitting;
  for (std::int64_t first = 0; first < product.left.rows; first += step) {
    const std::int64_t last = first + step < product.left.rows ? first + step : product.left.rows;
    for (std::int64_t column = 0; column < product.right.columns; column += kPanelColumns) {
      const std::int64_t columns = product.right.columns - column;
      if (columns > 2 * kLanes)
        run_panel<Element, 3>(product, first, last, column);
      else if (columns > kLanes)
        run_panel<Element, 2>(product, first, last, column);
      else
        run_panel<Element, 1>(product, first, last, column);
    }
  }
}

}  // namespace

template <typename Element>
void pack_transposed_avx512(const Matrix<const Element>& from, const Panels<Element>& to) {
  pack_transposed<kPanelColumns>(from, to);
}

template <typename Element>
void pack_avx512(const Matrix<const Element>& from, const Panels<Element>& to, std::int64_t first) {
  pack<kPanelColumns>(from, to, first);
}

template <typename Element>
void transpose_avx512(const Matrix<const Element>& from, Element* to, std::int64_t stride) {
  transpose_matrix(from, to, stride);
}

template <typename Element>
void multiply_avx512(const PanelProduct<Element>& product) {
  multiply_all(product);
}

template void pack_transposed_avx512<Bf16>(const Matrix<const Bf16>&, const Panels<Bf16>&);
template void pack_transposed_avx512<float>(const Matrix<const float>&, const Panels<float>&);
template void pack_avx512<Bf16>(const Matrix<const Bf16>&, const Panels<Bf16>&, std::int64_t);
template void pack_avx512<float>(const Matrix<const float>&, const Panels<float>&, std::int64_t);
template void transpose_avx512<Bf16>(const Matrix<const Bf16>&, Bf16*, std::int64_t);
template void transpose_avx512<float>(const Matrix<const float>&, float*, std::int64_t);
template void multiply_avx512<Bf16>(const PanelProduct<Bf16>&);
template void multiply_avx512<float>(const PanelProduct<float>&);

}  // namespace muster::nn::kernels
