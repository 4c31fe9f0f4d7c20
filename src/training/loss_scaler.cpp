// SPDX-License-Identifier: Apache-2.0
#include "muster/training/loss_scaler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "muster/core/error.h"

namespace muster::training {

void LossScalerConfig::validate() const {
  const auto require = [](bool good, const char* what) {
    if (!good) throw core::ConfigError(fmt::format("loss scaling: {}", what));
  };
  require(minimum_scale > 0 && std::isfinite(minimum_scale), "the smallest scale is a positive number");
  require(initial_scale >= minimum_scale && std::isfinite(initial_scale),
          "the first scale is a finite number, at least the smallest");
  require(growth_factor >= 1 && std::isfinite(growth_factor), "the growth factor is at least 1");
  require(backoff_factor > 0 && backoff_factor < 1, "the backoff factor lies between 0 and 1");
  require(growth_interval > 0, "the growth interval is at least one step");
}

LossScaler::LossScaler(const LossScalerConfig& config) : config_(config) {
  config.validate();
  if (config.enabled) state_.scale = config.initial_scale;
}

bool LossScaler::at_minimum() const {
  return !config_.enabled || state_.scale <= config_.minimum_scale;
}

void LossScaler::update(Outcome outcome) {
  if (!config_.enabled) return;
  if (outcome == Outcome::kOverflow) {
    state_ = {std::max(config_.minimum_scale, state_.scale * config_.backoff_factor), 0};
    return;
  }
  if (++state_.steps_since_change < config_.growth_interval) return;
  // GradScaler keeps its scale in fp32, and there it stays finite.
  const double grown = state_.scale * config_.growth_factor;
  state_ = {std::isfinite(static_cast<float>(grown)) ? grown : state_.scale, 0};
}

void LossScaler::restore(const State& state) {
  if (config_.enabled) state_ = state;
}

}  // namespace muster::training
