// SPDX-License-Identifier: Apache-2.0
// Layers that work on rows one by one.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <numeric>
#include <type_traits>
#include <utility>

#include "muster/core/error.h"
#include "muster/nn/trainable.h"
#include "nn/differentiable.h"
#include "nn/trainable_elements.h"
#include "nn/trainable_masks.h"

namespace muster::nn::trainable {
namespace {

constexpr auto kFp32 = c10::ScalarType::Float;

// The rows of each entry lie together, in their order, so that its sum is taken in fp32 and in one order.
template <typename Element>
void sum_by_entry(const at::Tensor& gradient, const at::Tensor& indices, at::Tensor& table) {
  const std::int64_t rows = indices.size(0), width = table.size(1);
  const auto* entry = indices.const_data_ptr<std::int64_t>();
  std::vector<std::int64_t> order(static_cast<std::size_t>(rows));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return entry[a] < entry[b]; });
  using Scalar = std::conditional_t<std::is_same_v<Element, float>, float, c10::BFloat16>;
  auto* entries = table.mutable_data_ptr<Scalar>();
  at::Tensor sums = at::empty({width}, kFp32);
  kernels::Matrix<const Element> from = matrix<Element>(gradient);
  for (std::int64_t first = 0, last = 0; first < rows; first = last) {
    const std::int64_t number = entry[order[static_cast<std::size_t>(first)]];
    while (last < rows && entry[order[static_cast<std::size_t>(last)]] == number) ++last;
    sums.zero_();
    from.rows = last - first;
    typed_kernels<Element>().add_rows(from, order.data() + first, sums.mutable_data_ptr<float>());
    std::copy_n(sums.const_data_ptr<float>(), width, entries + number * width);
  }
}

at::Tensor table_gradient(const at::Tensor& gradient, const at::Tensor& indices, const at::Tensor& like) {
  if (has_own_passes(gradient)) {
    at::Tensor table = at::zeros_like(like);
    const at::Tensor rows = with_rows(gradient), numbers = indices.contiguous();
    with_element(gradient, [&]<typename Element>(ElementType<Element>) {
      sum_by_entry<Element>(rows, numbers, table);
    });
    return table;
  }
  const at::Tensor wide = gradient.to(kFp32);
  return at::embedding_dense_backward(wide, indices, like.size(0), /*padding_idx=*/-1,
                                      /*scale_grad_by_freq=*/false)
      .to(like.scalar_type());
}

KeepBits row_bits(const at::Tensor& x, const Dropout& dropout) {
  const std::int64_t width = x.size(1);
  return KeepBits(dropout, [width](std::int64_t length) { return length * width; });
}

// Calls `work(first row, rows, bits)` for parts of the rows that have their bits in one piece: a text each,
// or all rows when nothing is dropped.
template <typename Work>
void for_masked_rows(std::int64_t rows, const KeepBits& bits, const Dropout& dropout, const Work& work) {
  if (!bits.defined()) return work(0, rows, nullptr);
  std::int64_t row = 0;
  for (std::size_t text = 0; text < dropout.texts->lengths.size(); ++text) {
    work(row, dropout.texts->lengths[text], bits.text(text));
    row += dropout.texts->lengths[text];
  }
}

at::Tensor dropped(const at::Tensor& x, const KeepBits& bits, const Dropout& dropout) {
  const at::Tensor from = x.contiguous();
  at::Tensor out = at::empty_like(from);
  const std::int64_t width = x.size(1);
  with_element(x, [&]<typename Element>(ElementType<Element>) {
    for_masked_rows(
        x.size(0), bits, dropout, [&](std::int64_t row, std::int64_t rows, const std::uint8_t* keep) {
          typed_kernels<Element>().drop(elements<Element>(from) + row * width, keep, keep_scale(dropout),
                                        rows * width, mutable_elements<Element>(out) + row * width);
        });
  });
  return out;
}

// What add_norm keeps for backward.
struct Normalized {
  at::Tensor values;             // [rows, width]
  at::Tensor inverse_deviation;  // fp32 [rows]
  at::Tensor gamma;              // fp32 [width]
  KeepBits bits;
  Dropout dropout;
};

at::Tensor add_norm_forward(const at::Tensor& x, const at::Tensor& residual, const NormParameters& norm,
                            Normalized& kept_values) {
  const at::Tensor from = x.contiguous();
  const at::Tensor added = residual.defined() ? residual.contiguous() : residual;
  at::Tensor out = at::empty_like(from);
  const std::int64_t width = x.size(1);
  kept_values.values = at::empty_like(from);
  kept_values.inverse_deviation = at::empty({x.size(0)}, kFp32);
  kept_values.gamma = norm.weight.to(kFp32).contiguous();
  const at::Tensor beta = norm.bias.to(kFp32).contiguous();
  at::Tensor scratch = at::empty({width}, kFp32);
  const Dropout& dropout = kept_values.dropout;
  with_element(x, [&]<typename Element>(ElementType<Element>) {
    for_masked_rows(x.size(0), kept_values.bits, dropout,
                    [&](std::int64_t row, std::int64_t rows, const std::uint8_t* keep) {
                      const std::int64_t at = row * width;
                      typed_kernels<Element>().add_norm(
                          {.rows = rows,
                           .width = width,
                           .x = elements<Element>(from) + at,
                           .residual = added.defined() ? elements<Element>(added) + at : nullptr,
                           .keep = keep,
                           .keep_scale = keep_scale(dropout),
                           .gamma = kept_values.gamma.const_data_ptr<float>(),
                           .beta = beta.const_data_ptr<float>(),
                           .epsilon = static_cast<float>(norm.epsilon),
                           .normalized = mutable_elements<Element>(kept_values.values) + at,
                           .inverse_deviation = kept_values.inverse_deviation.mutable_data_ptr<float>() + row,
                           .out = mutable_elements<Element>(out) + at,
                           .scratch = scratch.mutable_data_ptr<float>()});
                    });
  });
  return out;
}

// Of x, residual, weight and bias.
std::vector<at::Tensor> add_norm_gradients(const at::Tensor& gradient, const Normalized& kept_values,
                                           const Wanted& wanted) {
  const at::Tensor from = gradient.contiguous();
  const std::int64_t width = from.size(1);
  at::Tensor of_sum = at::empty_like(from);
  at::Tensor of_x = kept_values.bits.defined() ? at::empty_like(from) : of_sum;
  at::Tensor of_weights = at::zeros({2, width}, kFp32);
  auto* sums = of_weights.mutable_data_ptr<float>();
  with_element(from, [&]<typename Element>(ElementType<Element>) {
    for_masked_rows(from.size(0), kept_values.bits, kept_values.dropout,
                    [&](std::int64_t row, std::int64_t rows, const std::uint8_t* keep) {
                      const std::int64_t at = row * width;
                      typed_kernels<Element>().add_norm_backward(
                          {.rows = rows,
                           .width = width,
                           .gradient = elements<Element>(from) + at,
                           .normalized = elements<Element>(kept_values.values) + at,
                           .inverse_deviation = kept_values.inverse_deviation.const_data_ptr<float>() + row,
                           .keep = keep,
                           .keep_scale = keep_scale(kept_values.dropout),
                           .gamma = kept_values.gamma.const_data_ptr<float>(),
                           .sum_gradient = mutable_elements<Element>(of_sum) + at,
                           .x_gradient = keep ? mutable_elements<Element>(of_x) + at : nullptr,
                           .gamma_gradient = sums,
                           .beta_gradient = sums + width});
                    });
  });
  const auto of = [&](std::size_t input, at::Tensor found) {
    return wanted(input) ? std::move(found) : at::Tensor();
  };
  const auto dtype = from.scalar_type();
  return {of(0, of_x), of(1, of_sum), of(2, of_weights[0].to(dtype)), of(3, of_weights[1].to(dtype))};
}

at::Tensor library_add_norm(const at::Tensor& x, const at::Tensor& residual, const NormParameters& norm,
                            const Dropout& dropout) {
  at::Tensor sum = x.to(kFp32);
  if (drops(dropout)) sum = sum * row_factors(sum, dropout);
  if (residual.defined()) sum = sum + residual.to(kFp32);
  return at::layer_norm(sum, {x.size(-1)}, norm.weight.to(kFp32), norm.bias.to(kFp32), norm.epsilon)
      .to(x.scalar_type());
}

}  // namespace

at::Tensor embed(const at::Tensor& table, const at::Tensor& indices) {
  at::Tensor rows = at::embedding(kept(table), indices);
  return differentiable(std::move(rows), std::span(&table, 1),
                        [like = kept(table), indices](const at::Tensor& gradient, const Wanted&) {
                          return std::vector{table_gradient(gradient, indices, like)};
                        });
}

at::Tensor drop(const at::Tensor& x, const Dropout& dropout) {
  if (!drops(dropout)) return x;
  core::internal_check(dropout.texts && dropout.texts->rows == x.size(0), "a dropout knows its texts");
  if (!has_own_passes(x)) return x * row_factors(x, dropout);
  const KeepBits bits = row_bits(x, dropout);
  return differentiable(dropped(kept(x), bits, dropout), std::span(&x, 1),
                        [bits, dropout](const at::Tensor& gradient, const Wanted&) {
                          return std::vector{dropped(gradient, bits, dropout)};
                        });
}

at::Tensor add_norm(const at::Tensor& x, const at::Tensor& residual, const NormParameters& norm,
                    const Dropout& dropout) {
  if (drops(dropout))
    core::internal_check(dropout.texts && dropout.texts->rows == x.size(0), "a dropout knows its texts");
  if (!has_own_passes(x)) return library_add_norm(x, residual, norm, dropout);
  Normalized values{.bits = drops(dropout) ? row_bits(x, dropout) : KeepBits(), .dropout = dropout};
  at::Tensor out =
      add_norm_forward(kept(x), kept(residual), {kept(norm.weight), kept(norm.bias), norm.epsilon}, values);
  const at::Tensor inputs[] = {x, residual, norm.weight, norm.bias};
  return differentiable(std::move(out), inputs,
                        [values = std::move(values)](const at::Tensor& gradient, const Wanted& wanted) {
                          return add_norm_gradients(gradient, values, wanted);
                        });
}

}  // namespace muster::nn::trainable
