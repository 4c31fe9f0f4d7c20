// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>

namespace muster::training {

enum class ScheduleKind { kConstant, kLinear, kCosine };
ScheduleKind schedule_kind_from_name(const std::string& name);  ///< "constant", "linear", "cosine"

/// The learning rate's course, as transformers defines it: from 0 up to 1 over the warm-up, then constant,
/// or down to 0 at `total_steps`, straight or along half a cosine.
struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::kConstant;
  std::uint64_t warmup_steps = 0;
  std::uint64_t total_steps = 0;  ///< not read by kConstant
  void validate() const;          ///< ConfigError
};

/// Of the learning rate, for the update after `step` others: the first has 0, which a warm-up makes a factor
/// of 0.
double factor(const ScheduleConfig& config, std::uint64_t step);

}  // namespace muster::training
