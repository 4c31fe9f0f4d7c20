// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "muster/formats/item_source.h"
#include "muster/phases/item_phase.h"

namespace muster::phases {

struct PlanReport {
  std::uint64_t items = 0;
  std::uint64_t length = 0;
  std::uint64_t truncated = 0;
  std::uint64_t batches = 0;
  double balance = 1;
  double wall_seconds = 0;
  double rank_bytes = 0;
  std::string text;  ///< a table for people
};

/// Host memory of a rank: the program, one prepared model, and what its workers need.
double rank_bytes(const Footprint& footprint, double workers);

/// Reads and prepares the input once (no weights), cuts and deals it exactly as a run on `ranks` ranks would.
PlanReport plan_report(const PhaseInfo& info, const config::Config& config, const ItemPhase& phase,
                       const formats::InputConfig& input, int ranks);

/// What `muster plan` prints of a phase on `ranks` ranks.
std::string plan_text(const PhaseInfo& phase, const config::Config& config, int ranks);

}  // namespace muster::phases
