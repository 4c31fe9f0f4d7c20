// SPDX-License-Identifier: Apache-2.0
#include <ATen/core/grad_mode.h>

#include <utility>

#include "muster/core/error.h"
#include "muster/nn/trainable.h"
#include "nn/differentiable.h"
#include "nn/trainable_products.h"

namespace muster::nn::trainable {
namespace {

// Of x, the weights and the biases, in this order, from the gradient of x W^T + b.
std::vector<at::Tensor> linear_gradients(const at::Tensor& gradient, const LinearInputs& inputs,
                                         const Wanted& wanted) {
  const std::size_t count = inputs.weights.size();
  std::vector<at::Tensor> gradients(1 + 2 * count);
  std::vector<bool> weights_wanted;
  bool any_weight = false, any_bias = false;
  for (std::size_t i = 0; i < count; ++i) {
    weights_wanted.push_back(wanted(1 + i));
    any_weight |= weights_wanted.back();
    any_bias |= wanted(1 + count + i);
  }
  if (any_weight) {
    auto found = products_to_weights(gradient, inputs, weights_wanted);
    std::move(found.begin(), found.end(), gradients.begin() + 1);
  }
  if (any_bias) {
    const at::Tensor sums = sum_of_rows(gradient);
    std::int64_t first = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t out = inputs.weights[i].size(0);
      if (wanted(1 + count + i))
        gradients[1 + count + i] = sums.narrow(0, first, out).to(inputs.biases[i].scalar_type());
      first += out;
    }
  }
  if (wanted(0)) gradients[0] = product_to_input(gradient, inputs.weights);
  return gradients;
}

LinearInputs kept_inputs(const at::Tensor& x, std::span<const at::Tensor> weights,
                         std::span<const at::Tensor> biases) {
  core::internal_check(weights.size() == biases.size(), "every weight has a bias, which may be undefined");
  LinearInputs inputs{kept(x), {}, {}};
  for (const at::Tensor& weight : weights) inputs.weights.push_back(kept(weight));
  for (const at::Tensor& bias : biases) inputs.biases.push_back(kept(bias));
  return inputs;
}

std::vector<at::Tensor> in_order(const at::Tensor& x, std::span<const at::Tensor> weights,
                                 std::span<const at::Tensor> biases) {
  std::vector<at::Tensor> all{x};
  all.insert(all.end(), weights.begin(), weights.end());
  all.insert(all.end(), biases.begin(), biases.end());
  return all;
}

}  // namespace

at::Tensor linears(const at::Tensor& x, std::span<const at::Tensor> weights,
                   std::span<const at::Tensor> biases) {
  LinearInputs inputs = kept_inputs(x, weights, biases);
  at::Tensor out = product_forward(inputs);
  return differentiable(std::move(out), in_order(x, weights, biases),
                        [inputs = std::move(inputs)](const at::Tensor& gradient, const Wanted& wanted) {
                          return linear_gradients(gradient, inputs, wanted);
                        });
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return linears(x, std::span(&weight, 1), std::span(&bias, 1));
}

at::Tensor linear_gelu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const auto weights = std::span(&weight, 1), biases = std::span(&bias, 1);
  LinearInputs inputs = kept_inputs(x, weights, biases);
  auto [before, after] = product_gelu(inputs);
  return differentiable(std::move(after), in_order(x, weights, biases),
                        [inputs = std::move(inputs), before = std::move(before)](const at::Tensor& gradient,
                                                                                 const Wanted& wanted) {
                          return linear_gradients(through_gelu(gradient, before), inputs, wanted);
                        });
}

}  // namespace muster::nn::trainable
