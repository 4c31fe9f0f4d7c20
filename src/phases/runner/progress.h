// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "muster/comm/watchdog.h"

namespace muster::phases {

/// What rank 0 has planned so far: the ETA counts work, not items, because the longest items go first.
struct PlannedWork {
  std::atomic<std::uint64_t> items{0};
  std::atomic<std::uint64_t> length{0};
};

/// One live line for the whole job on rank 0 (a terminal: every second; otherwise a line every 30 s):
/// done/total, rate, ETA, slowest rank. Reads the watchdog's board, so it costs no communication.
class ProgressLine {
 public:
  struct Config {
    std::string item = "items";
    std::uint64_t total = 0;
    std::uint64_t done_before = 0;         ///< by earlier starts
    const PlannedWork* planned = nullptr;  ///< none: the ETA counts items
    int ranks_an_item = 1;                 ///< of so many ranks only the first has figures of its own
    double max_seconds = 0;  ///< calls `on_time_up` once after that many seconds; infinity: never
    std::function<void()> on_time_up;
  };
  ProgressLine(const comm::Watchdog& watchdog, Config config);
  ~ProgressLine();

 private:
  void loop();
  std::string line() const;
  double seconds_left(std::uint64_t items_done, std::uint64_t work_done, double elapsed) const;

  const comm::Watchdog& watchdog_;
  Config config_;
  double start_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace muster::phases
