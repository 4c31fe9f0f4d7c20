// SPDX-License-Identifier: Apache-2.0
// DPM-Solver++ (Lu et al., 2022, algorithm 2 and its third-order form), multistep, as an ODE or with noise
// added again. Coefficients are floats in the reference's order: differences of lambdas lose digits.
#include <ATen/TensorOperators.h>

#include <cmath>
#include <deque>

#include "diffusion/samplers/solver_levels.h"

namespace muster::diffusion {
namespace {

class DpmSolver final : public Sampler {
 public:
  DpmSolver(const SchedulerConfig& config, std::uint32_t steps) : config_(config), levels_(config, steps) {
    times_ = levels_.times();
  }

  bool adds_noise() const override { return config_.algorithm == Algorithm::kSde; }

  at::Tensor step(const at::Tensor& output, const at::Tensor& sample, std::size_t call,
                  const NoiseSource& noise) override {
    pictures_.push_front(predicted_picture(config_.prediction, output, sample, levels_.at(call)));
    if (pictures_.size() > config_.solver_order) pictures_.pop_back();
    const Terms terms = differences(order(call), call);
    at::Tensor next = config_.algorithm == Algorithm::kSde ? stochastic(terms, sample) : plain(terms, sample);
    if (config_.algorithm != Algorithm::kSde) return next;
    const float added = terms.to.noise * std::sqrt(1.0F - std::exp(-2.0F * terms.h));
    return added > 0 ? next + noise(call) * added : next;
  }

 private:
  /// The picture and its finite differences in lambda; undefined above the order.
  struct Terms {
    Level from, to;
    float h;
    at::Tensor d0, d1, d2;
    bool third;
  };

  std::size_t order(std::size_t call) const {
    const std::size_t steps = levels_.steps(), left = steps - call;
    if (levels_.at(call).lambda == levels_.at(call + 1).lambda) return 1;  // nothing to divide by
    const bool few = config_.lower_order_final && steps < 15;
    if (left == 1 && (config_.euler_at_final || few || config_.final_sigma == FinalSigma::kZero)) return 1;
    const std::size_t known = std::min<std::size_t>(pictures_.size(), config_.solver_order);
    return left == 2 && few ? std::min<std::size_t>(known, 2) : known;
  }

  Terms differences(std::size_t order, std::size_t call) const {
    Terms out{levels_.at(call), levels_.at(call + 1), 0, pictures_[0], {}, {}, order == 3};
    out.h = out.to.lambda - out.from.lambda;
    if (order == 1) return out;
    const float before = levels_.at(call - 1).lambda;
    const float r0 = (out.from.lambda - before) / out.h;
    const at::Tensor first = (pictures_[0] - pictures_[1]) * (1.0F / r0);
    out.d1 = first;
    if (order == 2) return out;
    const float r1 = (before - levels_.at(call - 2).lambda) / out.h;
    const at::Tensor change = first - (pictures_[1] - pictures_[2]) * (1.0F / r1);
    out.d1 = first + change * (r0 / (r0 + r1));
    out.d2 = change * (1.0F / (r0 + r1));
    return out;
  }

  at::Tensor plain(const Terms& t, const at::Tensor& sample) const {
    const float signal = t.to.signal, h = t.h, e = std::exp(-h) - 1.0F;
    at::Tensor next = sample * (t.to.noise / t.from.noise) - t.d0 * (signal * e);
    if (!t.d1.defined()) return next;
    if (!t.third && config_.solver_type == SolverType::kMidpoint) return next - t.d1 * (0.5F * (signal * e));
    next = next + t.d1 * (signal * (e / h + 1.0F));
    return t.d2.defined() ? next - t.d2 * (signal * ((e + h) / (h * h) - 0.5F)) : next;
  }

  at::Tensor stochastic(const Terms& t, const at::Tensor& sample) const {
    const float signal = t.to.signal, twice = 2.0F * t.h, e = 1.0F - std::exp(-twice);
    at::Tensor next = sample * (t.to.noise / t.from.noise * std::exp(-t.h)) + t.d0 * (signal * e);
    if (!t.d1.defined()) return next;
    if (!t.third && config_.solver_type == SolverType::kMidpoint) return next + t.d1 * (0.5F * (signal * e));
    next = next + t.d1 * (signal * (e / -twice + 1.0F));
    return t.d2.defined() ? next + t.d2 * (signal * ((e - twice) / (twice * twice) - 0.5F)) : next;
  }

  SchedulerConfig config_;
  SolverLevels levels_;
  std::deque<at::Tensor> pictures_;  // predicted ones, newest first
};

}  // namespace

std::unique_ptr<Sampler> make_dpm_solver(const SchedulerConfig& config, std::uint32_t steps) {
  return std::make_unique<DpmSolver>(config, steps);
}

}  // namespace muster::diffusion
