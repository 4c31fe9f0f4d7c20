// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "muster/plan/plan.h"

namespace muster::phases {

enum class Schedule { kBalanced, kCeil, kDynamic };
Schedule schedule_from_name(const std::string& name);

/// A window cut into micro-batches, and which rank runs which of them.
struct DealtWindow {
  std::vector<plan::MicroBatch> batches;
  plan::Deal deal;
};

/// Cuts and deals a window as the schedule says; `loads` (a rank's cost so far) grows by what is dealt. For
/// kDynamic the deal is a simulation: at run time whoever asks first gets the next batch.
DealtWindow deal_window(std::span<const std::uint32_t> lengths, Schedule schedule, const plan::CutConfig& cut,
                        std::span<double> loads);

}  // namespace muster::phases
