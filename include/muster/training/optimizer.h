// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace muster::training {

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019), in the two forms that people train with.
enum class OptimizerKind {
  kAdamW,    ///< torch.optim.AdamW: first p *= 1 - lr * decay, then p -= lr / c1 * m / (sqrt(v) / sqrt(c2) +
             ///< epsilon), c = 1 - beta^t
  kAdamWHf,  ///< transformers' of old: first p -= lr * sqrt(c2) / c1 * m / (sqrt(v) + epsilon), then p -= lr
             ///< * decay * p
};
OptimizerKind optimizer_kind_from_name(const std::string& name);  ///< "adamw", "adamw_hf"

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double learning_rate = 5e-5;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  void validate() const;  ///< ConfigError
};

/// What an update has in common for all weights.
struct UpdateStep {
  std::uint64_t number = 1;    ///< of the update; the first is 1
  double learning_rate = 0;    ///< with the schedule's factor
  double gradient_factor = 1;  ///< of every gradient: clipping, and the loss scale undone
};

/// A run of weights and their state: flat fp32 tensors of one length and device, contiguous.
struct UpdateRange {
  at::Tensor parameters, first_moment, second_moment;  ///< changed
  at::Tensor gradient;                                 ///< only read
  bool decays = true;
};

void update(const OptimizerConfig& config, const UpdateStep& step, const UpdateRange& range);

/// average += share * (values - average): flat fp32 tensors of one length and device, contiguous.
void move_average(const at::Tensor& average, const at::Tensor& values, double share);

}  // namespace muster::training
