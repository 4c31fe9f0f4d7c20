// SPDX-License-Identifier: Apache-2.0
// Samplers that step from training step to training step: DDIM (Song et al., 2020, without added noise) and
// PNDM's linear multistep form (Liu et al., 2022).
#include <ATen/TensorOperators.h>

#include <fmt/format.h>

#include <cmath>
#include <deque>

#include "diffusion/samplers/samplers.h"
#include "diffusion/schedule.h"
#include "muster/core/error.h"

namespace muster::diffusion {
namespace {

/// A step between two shares of signal.
struct Hop {
  float from, to;
};

class TimeGrid {
 public:
  explicit TimeGrid(const SchedulerConfig& config)
      : shares_(signal_shares(config)), last_(config.alpha_to_one ? 1.0F : shares_.front()) {}

  Hop hop(std::int64_t from, std::int64_t to) const { return {share(from), to < 0 ? last_ : share(to)}; }

 private:
  float share(std::int64_t step) const {
    if (step < 0 || step >= static_cast<std::int64_t>(shares_.size()))
      throw core::ConfigError(
          fmt::format("so many steps lead to training step {}, of which there are {} (scheduler_config.json: "
                      "timestep_spacing and "
                      "steps_offset); ask for fewer steps",
                      step, shares_.size()));
    return shares_[static_cast<std::size_t>(step)];
  }
  std::vector<float> shares_;
  float last_;
};

class Ddim final : public Sampler {
 public:
  Ddim(const SchedulerConfig& config, std::uint32_t steps) : config_(config) {
    const TimeGrid grid(config);
    const std::int64_t stride = config.train_steps / steps;
    for (const std::int64_t time : visited_steps(config, steps)) {
      times_.push_back(static_cast<float>(time));
      hops_.push_back(grid.hop(time, time - stride));
    }
  }

  at::Tensor step(const at::Tensor& output, const at::Tensor& sample, std::size_t call,
                  const NoiseSource&) override {
    const auto [from, to] = hops_.at(call);
    const float signal = std::sqrt(from), noise = std::sqrt(1.0F - from);
    at::Tensor clean, error;  // formula 12 of the paper
    switch (config_.prediction) {
      case Prediction::kEpsilon:
        clean = (sample - output * noise) / signal;
        error = output;
        break;
      case Prediction::kSample:
        clean = output;
        error = (sample - clean * signal) / noise;
        break;
      case Prediction::kVelocity:
        clean = sample * signal - output * noise;
        error = output * signal + sample * noise;
        break;
    }
    if (config_.clip_range) clean = clean.clamp(-*config_.clip_range, *config_.clip_range);
    return clean * std::sqrt(to) + error * std::sqrt(1.0F - to);
  }

 private:
  SchedulerConfig config_;
  std::vector<Hop> hops_;
};

/// The second model call repeats the first step with what is known behind it.
class Pndm final : public Sampler {
 public:
  Pndm(const SchedulerConfig& config, std::uint32_t steps) : config_(config) {
    const TimeGrid grid(config);
    const std::int64_t stride = config.train_steps / steps;
    auto visited = visited_steps(config, steps);
    if (visited.size() > 1) visited.insert(visited.begin() + 1, visited[1]);
    for (std::size_t call = 0; call < visited.size(); ++call) {
      const std::int64_t time = visited[call];
      times_.push_back(static_cast<float>(time));
      hops_.push_back(call == 1 ? grid.hop(time + stride, time) : grid.hop(time, time - stride));
    }
  }

  at::Tensor step(const at::Tensor& output, const at::Tensor& sample, std::size_t call,
                  const NoiseSource&) override {
    if (call != 1) {
      outputs_.push_front(output);
      if (outputs_.size() > 4) outputs_.pop_back();
    }
    if (call == 0) first_ = sample;
    return hop(call == 1 ? first_ : sample, combined(output, call), hops_.at(call));
  }

 private:
  // Adams and Bashforth's weights, newest first.
  at::Tensor combined(const at::Tensor& output, std::size_t call) const {
    const auto& e = outputs_;
    if (call == 1) return (output + e[0]) / 2;
    switch (e.size()) {
      case 1:
        return output;
      case 2:
        return (e[0] * 3 - e[1]) / 2;
      case 3:
        return (e[0] * 23 - e[1] * 16 + e[2] * 5) / 12;
      default:
        return (e[0] * 55 - e[1] * 59 + e[2] * 37 - e[3] * 9) * (1.0 / 24);
    }
  }

  // Formula 9 of the paper.
  at::Tensor hop(const at::Tensor& sample, at::Tensor error, const Hop& shares) const {
    const auto [from, to] = shares;
    const float noise = 1.0F - from;
    if (config_.prediction == Prediction::kVelocity)
      error = error * std::sqrt(from) + sample * std::sqrt(noise);
    const float denominator = from * std::sqrt(1.0F - to) + std::sqrt(from * noise * to);
    return sample * std::sqrt(to / from) - error * (to - from) / denominator;
  }

  SchedulerConfig config_;
  std::vector<Hop> hops_;
  std::deque<at::Tensor> outputs_;
  at::Tensor first_;
};

}  // namespace

std::unique_ptr<Sampler> make_ddim(const SchedulerConfig& config, std::uint32_t steps) {
  return std::make_unique<Ddim>(config, steps);
}

std::unique_ptr<Sampler> make_pndm(const SchedulerConfig& config, std::uint32_t steps) {
  return std::make_unique<Pndm>(config, steps);
}

}  // namespace muster::diffusion
