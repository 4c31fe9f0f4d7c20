// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "diffusion/scheduler_config.h"

namespace muster::diffusion {

/// Noise that a stochastic sampler adds behind a model call: standard normal, in the sample's shape.
using NoiseSource = std::function<at::Tensor(std::size_t call)>;

/// Makes pictures out of noise, a model call at a time; an object is for one batch. All arithmetic on samples
/// is in fp32 and element by element, so that a picture does not depend on its batch.
class Sampler {
 public:
  virtual ~Sampler() = default;
  /// What the model is told at each of its calls.
  const std::vector<float>& times() const { return times_; }
  /// Of the noise that the first call begins with.
  virtual float initial_scale() const { return 1; }
  virtual bool adds_noise() const { return false; }
  /// What the model reads at a call.
  virtual at::Tensor model_input(const at::Tensor& sample, std::size_t) const { return sample; }
  /// `output` is what the model said of `sample`; calls come in order.
  virtual at::Tensor step(const at::Tensor& output, const at::Tensor& sample, std::size_t call,
                          const NoiseSource& noise) = 0;

 protected:
  std::vector<float> times_;
};

/// ConfigError when so many steps cannot be taken.
std::unique_ptr<Sampler> make_sampler(const SchedulerConfig& config, std::uint32_t steps);

}  // namespace muster::diffusion
