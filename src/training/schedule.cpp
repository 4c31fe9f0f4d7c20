// SPDX-License-Identifier: Apache-2.0
#include "muster/training/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "muster/core/error.h"

namespace muster::training {

ScheduleKind schedule_kind_from_name(const std::string& name) {
  if (name == "constant") return ScheduleKind::kConstant;
  if (name == "linear") return ScheduleKind::kLinear;
  if (name == "cosine") return ScheduleKind::kCosine;
  throw core::ConfigError(
      fmt::format("no learning-rate schedule '{}'; there are constant, linear and cosine", name));
}

void ScheduleConfig::validate() const {
  if (kind != ScheduleKind::kConstant && warmup_steps > total_steps) {
    throw core::ConfigError(
        fmt::format("a warm-up of {} steps is longer than the training of {}; shorten it, or "
                    "take the constant schedule",
                    warmup_steps, total_steps));
  }
}

double factor(const ScheduleConfig& config, std::uint64_t step) {
  const auto now = static_cast<double>(step), warmup = static_cast<double>(config.warmup_steps),
             total = static_cast<double>(config.total_steps);
  if (step < config.warmup_steps) return now / warmup;
  const double after = std::max(1.0, total - warmup);
  switch (config.kind) {
    case ScheduleKind::kConstant:
      return 1;
    case ScheduleKind::kLinear:
      return std::max(0.0, (total - now) / after);
    case ScheduleKind::kCosine:
      // The cosine would rise again after its half.
      if (step >= config.total_steps) return 0;
      return 0.5 * (1 + std::cos(std::numbers::pi * (now - warmup) / after));
  }
  throw core::InternalError("unknown ScheduleKind");
}

}  // namespace muster::training
