// SPDX-License-Identifier: Apache-2.0
#include "muster/training/optimizer.h"

#include <fmt/format.h>

#include <cmath>

#include "muster/core/error.h"
#include "training/update_kernels.h"

namespace muster::training {
namespace {

RawStep raw_step(const OptimizerConfig& config, const UpdateStep& step, bool decays) {
  const auto number = static_cast<double>(step.number);
  const double correction1 = 1 - std::pow(config.beta1, number);
  const double root_correction2 = std::sqrt(1 - std::pow(config.beta2, number));
  const double decay = decays ? step.learning_rate * config.weight_decay : 0;
  RawStep raw{};
  raw.gradient_factor = static_cast<float>(step.gradient_factor);
  raw.beta1 = static_cast<float>(config.beta1);
  raw.beta2 = static_cast<float>(config.beta2);
  raw.one_minus_beta1 = static_cast<float>(1 - config.beta1);
  raw.one_minus_beta2 = static_cast<float>(1 - config.beta2);
  raw.epsilon = static_cast<float>(config.epsilon);
  raw.root_correction2 = static_cast<float>(root_correction2);
  if (config.kind == OptimizerKind::kAdamW) {
    raw.step_size = static_cast<float>(step.learning_rate / correction1);
    raw.decay = static_cast<float>(1 - decay);
  } else {
    raw.step_size = static_cast<float>(step.learning_rate * root_correction2 / correction1);
    raw.decay = static_cast<float>(decay);
  }
  return raw;
}

void update_on_cpu(OptimizerKind kind, const RawStep& step, const UpdateRange& range) {
  const RawRange raw{range.parameters.data_ptr<float>(), range.first_moment.data_ptr<float>(),
                     range.second_moment.data_ptr<float>(), range.gradient.const_data_ptr<float>(),
                     static_cast<std::size_t>(range.parameters.numel())};
  if (kind == OptimizerKind::kAdamW) return adamw_update(step, raw);
  adamw_hf_update(step, raw);
}

/// The same by operators of the tensor library, for other devices.
void update_by_operators(OptimizerKind kind, const RawStep& step, const UpdateRange& range) {
  const at::Tensor gradient = range.gradient.mul(step.gradient_factor);
  at::Tensor p = range.parameters, m = range.first_moment, v = range.second_moment;
  v.mul_(step.beta2).addcmul_(gradient, gradient, step.one_minus_beta2);
  if (kind == OptimizerKind::kAdamW) {
    m.lerp_(gradient, step.one_minus_beta1);
    p.mul_(step.decay).addcdiv_(m, v.sqrt().div_(step.root_correction2).add_(step.epsilon), -step.step_size);
  } else {
    m.mul_(step.beta1).add_(gradient, step.one_minus_beta1);
    p.addcdiv_(m, v.sqrt().add_(step.epsilon), -step.step_size).sub_(p, step.decay);
  }
}

}  // namespace

OptimizerKind optimizer_kind_from_name(const std::string& name) {
  if (name == "adamw") return OptimizerKind::kAdamW;
  if (name == "adamw_hf") return OptimizerKind::kAdamWHf;
  throw core::ConfigError(fmt::format("no optimizer '{}'; there are adamw and adamw_hf", name));
}

void OptimizerConfig::validate() const {
  const auto require = [](bool good, const char* what, double value) {
    if (!good) throw core::ConfigError(fmt::format("optimizer: {}, not {}", what, value));
  };
  const auto is_rate = [](double beta) { return beta >= 0 && beta < 1; };
  require(learning_rate >= 0 && std::isfinite(learning_rate), "the learning rate is a number from 0",
          learning_rate);
  require(is_rate(beta1), "beta1 lies in [0, 1)", beta1);
  require(is_rate(beta2), "beta2 lies in [0, 1)", beta2);
  require(epsilon > 0 && std::isfinite(epsilon), "epsilon is above 0", epsilon);
  require(weight_decay >= 0 && std::isfinite(weight_decay), "the weight decay is a number from 0",
          weight_decay);
}

void update(const OptimizerConfig& config, const UpdateStep& step, const UpdateRange& range) {
  const RawStep raw = raw_step(config, step, range.decays);
  if (range.parameters.device().is_cpu()) return update_on_cpu(config.kind, raw, range);
  update_by_operators(config.kind, raw, range);
}

void move_average(const at::Tensor& average, const at::Tensor& values, double share) {
  if (average.device().is_cpu()) {
    return average_update(average.data_ptr<float>(), values.const_data_ptr<float>(),
                          static_cast<float>(share), static_cast<std::size_t>(average.numel()));
  }
  at::Tensor(average).lerp_(values, share);
}

}  // namespace muster::training
