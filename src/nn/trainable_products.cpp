// SPDX-License-Identifier: Apache-2.0
#include "nn/trainable_products.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "muster/device/device.h"
#include "muster/nn/tiles.h"
#include "nn/kernels/packed_weight.h"
#include "nn/trainable_elements.h"

namespace muster::nn::trainable {
namespace {

using kernels::kDepthGroup;
using kernels::Panels;

constexpr std::int64_t kVector = 16;

// In bf16 not on AMX, whose tiles oneDNN has and we have not.
bool has_own_products(const at::Tensor& x) {
  return has_own_passes(x) && (x.scalar_type() == c10::ScalarType::Float || !device::cpu_has_amx());
}

std::int64_t whole(std::int64_t size, std::int64_t step) {
  return (size + step - 1) / step * step;
}

// Whole groups in a row, as in every model of note.
template <typename Element>
at::Tensor in_groups(const at::Tensor& x) {
  const std::int64_t missing = whole(x.size(1), kDepthGroup<Element>) - x.size(1);
  return missing == 0 ? with_rows(x) : at::constant_pad_nd(x, {0, missing});
}

// Memory for a packed right side.
template <typename Element>
struct PackedSide {
  at::Tensor memory;
  Panels<Element> panels;

  PackedSide(std::int64_t depth, std::int64_t columns, const at::Tensor& like)
      : memory(at::empty({kernels::panel_elements<Element>(depth, columns)}, like.options())),
        panels{mutable_elements<Element>(memory), whole(depth, kDepthGroup<Element>), columns} {}

  Panels<const Element> view() const { return {panels.data, panels.depth, panels.columns}; }
};

struct Results {
  at::Tensor plain, gelu;  // gelu may be undefined
};

template <typename Element>
void multiply_forward(const LinearInputs& inputs, Results results) {
  const auto& own = typed_kernels<Element>();
  const at::Tensor x = in_groups<Element>(inputs.x);
  std::int64_t column = 0;
  for (std::size_t i = 0; i < inputs.weights.size(); ++i) {
    const at::Tensor weight = with_rows(inputs.weights[i]);
    const std::int64_t out = weight.size(0);
    const PackedSide<Element> right(x.size(1), out, x);
    own.pack_transposed(matrix<Element>(weight), right.panels);
    const PaddedFloats bias(inputs.biases[i]);
    own.multiply({.left = matrix<Element>(x),
                  .right = right.view(),
                  .bias = bias.data(),
                  .out = mutable_elements<Element>(results.plain) + column,
                  .out_stride = results.plain.size(1),
                  .gelu = results.gelu.defined() ? mutable_elements<Element>(results.gelu) : nullptr,
                  .table = &kernels::gelu_table()});
    column += out;
  }
}

std::int64_t columns_of(std::span<const at::Tensor> weights) {
  std::int64_t columns = 0;
  for (const at::Tensor& weight : weights) columns += weight.size(0);
  return columns;
}

template <typename Element>
at::Tensor multiply_to_input(const at::Tensor& gradient, std::span<const at::Tensor> weights) {
  for (const at::Tensor& weight : weights)
    if (weights.size() > 1 && weight.size(0) % kDepthGroup<Element> != 0) {
      const at::Tensor one = at::cat({weights.data(), weights.size()});
      return multiply_to_input<Element>(gradient, std::span(&one, 1));
    }
  const auto& own = typed_kernels<Element>();
  const at::Tensor left = in_groups<Element>(gradient);
  const std::int64_t in = weights.front().size(1);
  const PackedSide<Element> right(gradient.size(1), in, left);
  std::int64_t first = 0;
  for (const at::Tensor& weight : weights) {
    const at::Tensor rows = with_rows(weight);
    own.pack(matrix<Element>(rows), right.panels, first);
    first += rows.size(0);
  }
  at::Tensor out = at::empty({left.size(0), in}, left.options());
  own.multiply({.left = matrix<Element>(left),
                .right = right.view(),
                .out = mutable_elements<Element>(out),
                .out_stride = in});
  return out;
}

template <typename Element>
std::vector<at::Tensor> multiply_to_weights(const at::Tensor& gradient, const LinearInputs& inputs,
                                            const std::vector<bool>& wanted) {
  const auto& own = typed_kernels<Element>();
  const at::Tensor rows = with_rows(gradient), x = with_rows(inputs.x);
  const std::int64_t depth = whole(x.size(0), kDepthGroup<Element>), in = x.size(1);
  at::Tensor left = at::empty({rows.size(1), depth}, rows.options());
  own.transpose(matrix<Element>(rows), mutable_elements<Element>(left), depth);
  const PackedSide<Element> right(depth, in, x);
  own.pack(matrix<Element>(x), right.panels, 0);
  std::vector<at::Tensor> gradients(inputs.weights.size());
  std::int64_t first = 0;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const std::int64_t out = inputs.weights[i].size(0);
    if (wanted[i]) {
      gradients[i] = at::empty({out, in}, x.options());
      own.multiply({.left = matrix<Element>(left.narrow(0, first, out)),
                    .right = right.view(),
                    .out = mutable_elements<Element>(gradients[i]),
                    .out_stride = in});
    }
    first += out;
  }
  return gradients;
}

// x W^T + b where a library multiplies: on the CPU its rounding may depend on the row count, so that is the
// same for every product.
at::Tensor library_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const std::optional<at::Tensor> added = bias.defined() ? std::optional(bias) : std::nullopt;
  if (!x.device().is_cpu()) return at::linear(x, weight, added);
  if (x.scalar_type() == c10::ScalarType::Float && kernels::linear_fp32()) {
    const kernels::PackedWeight packed(weight, bias, kernels::LinearActivation::kIdentity,
                                       kernels::WeightStorage::kFp32);
    at::Tensor out = at::empty({x.size(0), weight.size(0)}, x.options());
    packed.multiply(x.contiguous(), {}, out);
    return out;
  }
  const std::int64_t rows = x.size(0);
  const at::Tensor padded = at::constant_pad_nd(x, {0, 0, 0, padded_rows(rows) - rows});
  std::vector<at::Tensor> tiles;
  for (std::int64_t row = 0; row < padded.size(0); row += kTileRows)
    tiles.push_back(at::linear(padded.narrow(0, row, kTileRows), weight, added));
  return at::cat(tiles).narrow(0, 0, rows);
}

}  // namespace

PaddedFloats::PaddedFloats(const at::Tensor& values) {
  if (!values.defined()) return;
  const std::int64_t missing = whole(values.size(0), kVector) - values.size(0);
  values_ = values.detach().to(c10::ScalarType::Float).contiguous();
  if (missing > 0) values_ = at::constant_pad_nd(values_, {0, missing});
}

at::Tensor product_forward(const LinearInputs& inputs) {
  const at::Tensor& x = inputs.x;
  if (!has_own_products(x)) {
    std::vector<at::Tensor> parts;
    for (std::size_t i = 0; i < inputs.weights.size(); ++i)
      parts.push_back(library_rows(x, inputs.weights[i], inputs.biases[i]));
    return parts.size() == 1 ? parts.front() : at::cat(parts, 1);
  }
  at::Tensor out = at::empty({x.size(0), columns_of(inputs.weights)}, x.options());
  with_element(x, [&]<typename Element>(ElementType<Element>) {
    multiply_forward<Element>(inputs, {out, {}});
  });
  return out;
}

BeforeAndAfter product_gelu(const LinearInputs& inputs) {
  if (!has_own_products(inputs.x)) {
    const at::Tensor before = product_forward(inputs);
    return {before, at::gelu(before)};
  }
  const at::Tensor& x = inputs.x;
  at::Tensor before = at::empty({x.size(0), columns_of(inputs.weights)}, x.options());
  at::Tensor after = at::empty_like(before);
  with_element(x, [&]<typename Element>(ElementType<Element>) {
    multiply_forward<Element>(inputs, {before, after});
  });
  return {before, after};
}

at::Tensor product_to_input(const at::Tensor& gradient, std::span<const at::Tensor> weights) {
  if (has_own_products(gradient))
    return with_element(gradient, [&]<typename Element>(ElementType<Element>) {
      return multiply_to_input<Element>(gradient, weights);
    });
  const at::Tensor weight = weights.size() == 1 ? weights.front() : at::cat({weights.data(), weights.size()});
  return library_rows(gradient, weight.t(), {});
}

std::vector<at::Tensor> products_to_weights(const at::Tensor& gradient, const LinearInputs& inputs,
                                            const std::vector<bool>& wanted) {
  if (has_own_products(gradient))
    return with_element(gradient, [&]<typename Element>(ElementType<Element>) {
      return multiply_to_weights<Element>(gradient, inputs, wanted);
    });
  std::vector<at::Tensor> gradients(inputs.weights.size());
  std::int64_t first = 0;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const std::int64_t out = inputs.weights[i].size(0);
    if (wanted[i]) gradients[i] = at::mm(gradient.narrow(1, first, out).t(), inputs.x);
    first += out;
  }
  return gradients;
}

at::Tensor sum_of_rows(const at::Tensor& x) {
  if (!has_own_passes(x)) return at::sum(x, {0}, /*keepdim=*/false, c10::ScalarType::Float);
  at::Tensor sums = at::zeros({x.size(1)}, c10::ScalarType::Float);
  const at::Tensor rows = with_rows(x);
  with_element(x, [&]<typename Element>(ElementType<Element>) {
    typed_kernels<Element>().add_rows(matrix<Element>(rows), nullptr, sums.mutable_data_ptr<float>());
  });
  return sums;
}

at::Tensor through_gelu(const at::Tensor& gradient, const at::Tensor& before) {
  if (!has_own_passes(gradient)) return at::gelu_backward(gradient, before);
  const at::Tensor from = gradient.contiguous();
  at::Tensor out = at::empty_like(before);
  with_element(gradient, [&]<typename Element>(ElementType<Element>) {
    typed_kernels<Element>().gelu_backward({elements<Element>(from), elements<Element>(before),
                                            before.numel(), mutable_elements<Element>(out),
                                            &kernels::gelu_table()});
  });
  return out;
}

}  // namespace muster::nn::trainable
