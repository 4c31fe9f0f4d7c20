// SPDX-License-Identifier: Apache-2.0
#include "phases/train/noise_objective.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "muster/core/error.h"

namespace muster::phases {
namespace {

constexpr double kBetaStart = 0.00085, kBetaEnd = 0.012;  // Stable Diffusion's, linear in their roots

std::vector<double> signal_shares() {
  std::vector<double> shares;
  double product = 1;
  for (std::int64_t step = 0; step < NoiseObjective::kSteps; ++step) {
    const double place = static_cast<double>(step) / (NoiseObjective::kSteps - 1);
    const double root = std::sqrt(kBetaStart) + place * (std::sqrt(kBetaEnd) - std::sqrt(kBetaStart));
    product *= 1 - root * root;
    shares.push_back(product);
  }
  return shares;
}

// Lin et al., 2023, algorithm 1: roots are shifted until the last is 0 and scaled back to the first.
void end_without_signal(std::vector<double>& shares) {
  const double first = std::sqrt(shares.front()), last = std::sqrt(shares.back());
  for (double& share : shares) {
    const double root = (std::sqrt(share) - last) * first / (first - last);
    share = root * root;
  }
}

at::Tensor column(const std::vector<float>& values) {
  at::Tensor out = at::empty({static_cast<std::int64_t>(values.size())}, c10::ScalarType::Float);
  std::copy(values.begin(), values.end(), out.mutable_data_ptr<float>());
  return out;
}

}  // namespace

Prediction prediction_from_name(const std::string& name) {
  if (name == "epsilon") return Prediction::kEpsilon;
  if (name == "v") return Prediction::kVelocity;
  if (name == "flow") return Prediction::kFlow;
  throw core::ConfigError(fmt::format("no prediction '{}'; there are epsilon, v and flow", name));
}

NoiseObjective::NoiseObjective(const ObjectiveConfig& config) : config_(config), signal_(signal_shares()) {
  if (config.zero_terminal_snr && config.prediction == Prediction::kEpsilon)
    throw core::ConfigError(
        "train.zero_terminal_snr needs train.prediction: v; where nothing but noise is left, predicting it "
        "says nothing of the picture");
  if (config.zero_terminal_snr) end_without_signal(signal_);
}

double NoiseObjective::weight(double signal) const {
  if (config_.min_snr_gamma <= 0) return 1;
  const double ratio = signal / std::max(1 - signal, 1e-12), bounded = std::min(ratio, config_.min_snr_gamma);
  if (config_.prediction == Prediction::kVelocity) return bounded / (ratio + 1);
  return ratio > 0 ? bounded / ratio : 1;
}

NoiseObjective::Task NoiseObjective::make(const at::Tensor& latents, const at::Tensor& noise,
                                          std::span<const float> places) const {
  std::vector<float> times, signal, noisy, weights;
  for (const float place : places) {
    if (config_.prediction == Prediction::kFlow) {
      times.push_back(place * static_cast<float>(kSteps));
      signal.push_back(1 - place);
      noisy.push_back(place);
      weights.push_back(1);
      continue;
    }
    const auto step = std::min(static_cast<std::int64_t>(place * static_cast<float>(kSteps)), kSteps - 1);
    const double share = signal_[static_cast<std::size_t>(step)];
    times.push_back(static_cast<float>(step));
    signal.push_back(static_cast<float>(std::sqrt(share)));
    noisy.push_back(static_cast<float>(std::sqrt(1 - share)));
    weights.push_back(static_cast<float>(weight(share)));
  }
  const auto over_pixels = [](const std::vector<float>& values) {
    return column(values).view({-1, 1, 1, 1});
  };
  const at::Tensor a = over_pixels(signal), b = over_pixels(noisy);
  Task task{
      .input = a * latents + b * noise, .target = noise, .times = column(times), .weights = column(weights)};
  if (config_.prediction == Prediction::kVelocity) task.target = a * noise - b * latents;
  if (config_.prediction == Prediction::kFlow) task.target = noise - latents;
  return task;
}

models::SavedSchedule NoiseObjective::schedule() const {
  models::SavedSchedule schedule{.steps = kSteps,
                                 .beta_start = kBetaStart,
                                 .beta_end = kBetaEnd,
                                 .zero_terminal_snr = config_.zero_terminal_snr};
  if (config_.prediction == Prediction::kVelocity) schedule.prediction = "v_prediction";
  if (config_.prediction == Prediction::kFlow) schedule.class_name = "FlowMatchEulerDiscreteScheduler";
  return schedule;
}

}  // namespace muster::phases
