// SPDX-License-Identifier: Apache-2.0
// The three products of a linear layer, by our kernels or a library's. Rows of the first two do not depend on
// each other.
#pragma once
#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

namespace muster::nn::trainable {

struct LinearInputs {
  at::Tensor x;                             ///< [rows, in]
  std::vector<at::Tensor> weights, biases;  ///< [out, in] and [out] or undefined
};

/// x W^T + b, one weight after the other: [rows, sum of out].
at::Tensor product_forward(const LinearInputs& inputs);

struct BeforeAndAfter {
  at::Tensor before, after;
};
/// The same with one weight and through an exact GELU.
BeforeAndAfter product_gelu(const LinearInputs& inputs);

/// dY W: [rows, in].
at::Tensor product_to_input(const at::Tensor& gradient, std::span<const at::Tensor> weights);

/// dY^T x, cut as the weights are: one a weight, undefined where not wanted.
std::vector<at::Tensor> products_to_weights(const at::Tensor& gradient, const LinearInputs& inputs,
                                            const std::vector<bool>& wanted);

/// Sum of rows in fp32, in their order.
at::Tensor sum_of_rows(const at::Tensor& x);

at::Tensor through_gelu(const at::Tensor& gradient, const at::Tensor& before);

}  // namespace muster::nn::trainable
