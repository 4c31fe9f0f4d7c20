// SPDX-License-Identifier: Apache-2.0
#include "comm/hang_verdict.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/clock.h"

namespace muster::comm {
namespace {

bool is_idle(const Beat& beat) {
  return beat.step_seconds < 0;
}

std::string who(std::span<const Beat> beats, int rank) {
  const Beat& beat = beats[static_cast<std::size_t>(rank)];
  return fmt::format("rank {}/{} on {} (pid {})", rank, beats.size(), beat.host, beat.pid);
}

std::string where(const Beat& beat) {
  const std::string phase = beat.phase.empty() ? "start" : beat.phase;
  return beat.what.empty() ? fmt::format("phase {}", phase) : fmt::format("phase {}, {}", phase, beat.what);
}

std::string silent_text(std::span<const Beat> beats, int rank, std::size_t silent) {
  const Beat& beat = beats[static_cast<std::size_t>(rank)];
  const std::string others = silent > 1 ? fmt::format(" ({} ranks are silent)", silent) : std::string();
  if (beat.counter == 0) return fmt::format("rank {}/{} never reported{}", rank, beats.size(), others);
  return fmt::format("{} does not respond: stopped, dead or cut off; last seen in {}{}", who(beats, rank),
                     where(beat), others);
}

/// The rank for which `score` is largest; -1 when it is negative for all.
template <class Score>
int worst(std::span<const Beat> beats, const Score& score) {
  int best = -1;
  double most = -1;
  for (std::size_t r = 0; r < beats.size(); ++r) {
    if (const double value = score(beats[r]); value >= 0 && value > most) {
      most = value;
      best = static_cast<int>(r);
    }
  }
  return best;
}

}  // namespace

std::optional<HangVerdict> judge_hang(std::span<const Beat> before, std::span<const Beat> now, int me,
                                      double hang_seconds) {
  std::vector<int> silent;
  for (std::size_t r = 0; r < now.size(); ++r) {
    if (static_cast<int>(r) != me && now[r].counter == before[r].counter)
      silent.push_back(static_cast<int>(r));
  }
  if (!silent.empty()) return HangVerdict{silent.front(), silent_text(now, silent.front(), silent.size())};

  const int stuck = worst(now, [&](const Beat& beat) {
    return !beat.waiting && beat.step_seconds >= hang_seconds ? beat.step_seconds : -1;
  });
  const auto duration = [&](int rank) {
    return core::human_duration(now[static_cast<std::size_t>(rank)].step_seconds);
  };
  if (stuck >= 0) {
    return HangVerdict{stuck, fmt::format("{} hangs in {} for {}", who(now, stuck),
                                          where(now[static_cast<std::size_t>(stuck)]), duration(stuck))};
  }
  // A rank at work within its limit: the others wait for it rightly, and it will be caught itself if it never
  // ends.
  if (std::ranges::any_of(now, [](const Beat& beat) { return !beat.waiting && !is_idle(beat); }))
    return std::nullopt;

  const int idle = worst(now, [](const Beat& beat) { return is_idle(beat) ? 0.0 : -1.0; });
  const int longest = worst(now, [](const Beat& beat) { return beat.step_seconds; });
  const int blamed = idle >= 0 ? idle : longest;
  const std::string state = idle >= 0 ? "does nothing while others wait for it"
                                      : "waits, as all ranks do, for " + duration(longest);
  return HangVerdict{blamed, fmt::format("{} {}, in {}", who(now, blamed), state,
                                         where(now[static_cast<std::size_t>(blamed)]))};
}

}  // namespace muster::comm
