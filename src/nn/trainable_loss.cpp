// SPDX-License-Identifier: Apache-2.0
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "muster/nn/trainable.h"

namespace muster::nn::trainable {

// With s(x) = softplus(x): -log p = s(-z), -log (1 - p) = s(z), and (1 - p)^gamma = exp(-gamma s(z)).
at::Tensor classification_loss(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights,
                               double scale, const LossConfig& config) {
  const at::Tensor z = logits.to(c10::ScalarType::Float);
  at::Tensor positive = at::softplus(-z), negative = at::softplus(z);
  if (config.focal_gamma != 0) {
    const at::Tensor missed = at::exp(negative * -config.focal_gamma);
    const at::Tensor alarmed = at::exp(positive * -config.focal_gamma);
    positive = positive * missed;
    negative = negative * alarmed;
  }
  const at::Tensor target = targets * config.positive_target;
  at::Tensor loss = target * config.positive_weight * positive + (1 - target) * negative;
  if (weights.defined()) loss = loss * weights;
  return loss.sum() * scale;
}

}  // namespace muster::nn::trainable
