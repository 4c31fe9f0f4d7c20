// SPDX-License-Identifier: Apache-2.0
// Euler steps over noise levels (Karras et al., 2022, algorithm 2 without churn), the ancestral form that
// adds noise again, and flow matching (Lipman et al., 2022; Liu et al., 2022).
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>

#include "diffusion/samplers/samplers.h"
#include "diffusion/schedule.h"

namespace muster::diffusion {
namespace {

class EulerBase : public Sampler {
 public:
  EulerBase(const SchedulerConfig& config, std::uint32_t steps) : config_(config) {
    NoiseLevels levels = noise_levels(config, signal_shares(config), steps);
    times_ = std::move(levels.times);
    sigmas_ = std::move(levels.sigmas);
  }

  float initial_scale() const override {
    const float most = *std::ranges::max_element(sigmas_);
    return config_.spacing == Spacing::kLeading ? std::sqrt(most * most + 1.0F) : most;
  }

  at::Tensor model_input(const at::Tensor& sample, std::size_t call) const override {
    const float sigma = sigmas_.at(call);
    return sample / std::sqrt(sigma * sigma + 1.0F);
  }

 protected:
  /// The sample without its noise.
  at::Tensor clean(const at::Tensor& output, const at::Tensor& sample, float sigma) const {
    switch (config_.prediction) {
      case Prediction::kSample:
        return output;
      case Prediction::kVelocity: {
        const float square = sigma * sigma + 1.0F;
        return output * (-sigma / std::sqrt(square)) + sample / square;
      }
      case Prediction::kEpsilon:
        break;
    }
    return sample - output * sigma;
  }

  /// Along the line from the clean sample to this one, from one noise level to another.
  at::Tensor move(const at::Tensor& output, const at::Tensor& sample, float sigma, float to) const {
    return sample + (sample - clean(output, sample, sigma)) / sigma * (to - sigma);
  }

  SchedulerConfig config_;
  std::vector<float> sigmas_;
};

class Euler final : public EulerBase {
 public:
  using EulerBase::EulerBase;
  at::Tensor step(const at::Tensor& output, const at::Tensor& sample, std::size_t call,
                  const NoiseSource&) override {
    return move(output, sample, sigmas_.at(call), sigmas_.at(call + 1));
  }
};

class EulerAncestral final : public EulerBase {
 public:
  using EulerBase::EulerBase;
  bool adds_noise() const override { return true; }

  at::Tensor step(const at::Tensor& output, const at::Tensor& sample, std::size_t call,
                  const NoiseSource& noise) override {
    const float from = sigmas_.at(call), to = sigmas_.at(call + 1);
    const float up = std::sqrt(to * to * (from * from - to * to) / (from * from));
    const float down = std::sqrt(to * to - up * up);
    at::Tensor next = move(output, sample, from, down);
    return up > 0 ? next + noise(call) * up : next;
  }
};

/// The model tells the direction from picture to noise.
class FlowEuler final : public Sampler {
 public:
  FlowEuler(const SchedulerConfig& config, std::uint32_t steps) {
    NoiseLevels levels = flow_levels(config, steps);
    times_ = std::move(levels.times);
    sigmas_ = std::move(levels.sigmas);
  }

  at::Tensor step(const at::Tensor& output, const at::Tensor& sample, std::size_t call,
                  const NoiseSource&) override {
    return sample + output * (sigmas_.at(call + 1) - sigmas_.at(call));
  }

 private:
  std::vector<float> sigmas_;
};

}  // namespace

std::unique_ptr<Sampler> make_euler(const SchedulerConfig& config, std::uint32_t steps) {
  return std::make_unique<Euler>(config, steps);
}

std::unique_ptr<Sampler> make_euler_ancestral(const SchedulerConfig& config, std::uint32_t steps) {
  return std::make_unique<EulerAncestral>(config, steps);
}

std::unique_ptr<Sampler> make_flow_euler(const SchedulerConfig& config, std::uint32_t steps) {
  return std::make_unique<FlowEuler>(config, steps);
}

}  // namespace muster::diffusion
