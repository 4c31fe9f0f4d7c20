// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "muster/comm/session.h"

namespace muster::comm {

/// A rank's slot on the board as others see it.
struct Beat {
  std::uint64_t counter =
      0;  ///< grows every tick while the process lives and is not stopped; 0: never written, or left
  std::uint64_t steps = 0;  ///< grows with every finished step (micro-batch, window, collective)
  std::uint64_t done = 0;   ///< items finished by this process
  double busy_seconds = 0;  ///< of the rank's workers, summed
  std::uint64_t work = 0;   ///< cost units finished (tokens for encode)
  std::int64_t pid = 0;
  bool waiting = false;           ///< inside a collective or waiting for others
  double step_seconds = -1;       ///< how long the step has lasted by the rank's own clock; negative: idle
  std::string host, phase, what;  ///< e.g. "encode", "batch 17 (256 items)"
};

struct WatchdogConfig {
  std::string board_path;     ///< .run/beats on a file system that all ranks share
  double hang_seconds = 900;  ///< a step may take this long; infinity switches off
  std::string stop_path;      ///< when this file appears, on_stop is called (one rank's SIGUSR1 stops all)
  std::function<void()> on_stop;
  /// Called on a hang after the cause was logged, before the process ends with code 1.
  std::function<void()> on_hang;
  std::string cause_path;  ///< claimed before the cause is printed (claim_once); empty: board_path + ".cause"
  double tick_seconds = 1;
};

/// Writes this rank's slot every tick and checks its own progress. Whoever's step exceeds the limit reads the
/// board twice, names the stalest rank (a stopped rank cannot name itself), and ends the job with
/// Session::abort(1).
class Watchdog {
 public:
  Watchdog(const RankPlace& place, WatchdogConfig config);
  ~Watchdog();
  /// A step begins; the clock for hang_seconds restarts.
  void step(const std::string& what);
  void waiting(const std::string& what);  ///< like step, but in the hands of other ranks
  void idle();                            ///< no limit until the next step
  void set_phase(const std::string& phase);
  void add_progress(std::uint64_t items, std::uint64_t work, double busy_seconds);
  std::vector<Beat> read_board() const;  ///< all ranks' slots
  /// This rank is about to end in good order, by a signal say: dead_ranks() of the others will not list it.
  void leave();
  /// Ranks of this host whose process is gone, without those that left.
  std::vector<int> dead_ranks() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// True for the first caller over all processes that share the folder: used to print a cause once.
bool claim_once(const std::string& path);

/// Blocks SIGINT, SIGTERM, SIGUSR1, SIGUSR2 (and SIGPIPE is ignored) in this and all later threads; call
/// first in main.
void block_signals();
/// One thread that takes the blocked signals and hands them to `handler` (not in signal context).
class SignalThread {
 public:
  explicit SignalThread(std::function<void(int signal)> handler);
  ~SignalThread();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::comm
