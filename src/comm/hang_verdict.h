// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <span>
#include <string>

#include "muster/comm/watchdog.h"

namespace muster::comm {

struct HangVerdict {
  int rank = 0;      ///< who holds up the job
  std::string text;  ///< one sentence with rank, host, phase and step
};

/// Judges two readings of the board, taken a few ticks apart because rank `me` exceeded `hang_seconds`.
/// Nullopt: nobody hangs; `me` waits for a rank that still works within its own limit.
std::optional<HangVerdict> judge_hang(std::span<const Beat> before, std::span<const Beat> now, int me,
                                      double hang_seconds);

}  // namespace muster::comm
