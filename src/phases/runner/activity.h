// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <mutex>
#include <string>

#include "muster/comm/watchdog.h"
#include "phases/runner/recorder.h"

namespace muster::phases {

/// Tells the watchdog what a rank is doing, although several threads do it: batches of the workers come
/// first, and only a rank without one is waiting when its main thread waits for other ranks. The recorder
/// learns why workers have to wait.
class Activity {
 public:
  Activity(comm::Watchdog& watchdog, Recorder& recorder) : watchdog_(watchdog), recorder_(recorder) {}

  void batch_begins(const std::string& what) {
    const std::lock_guard lock(mutex_);
    ++batches_;
    watchdog_.step(what);
  }
  void batch_ends() {
    const std::lock_guard lock(mutex_);
    if (--batches_ == 0) tell();
  }
  /// `reason`: why a worker without a batch waits meanwhile.
  void main_steps(const std::string& what, WaitsFor reason) {
    recorder_.main_does(reason);
    set(what, State::kStep);
  }
  void main_waits(const std::string& what, WaitsFor reason) {
    recorder_.main_does(reason);
    set(what, State::kWaits);
  }
  comm::Watchdog& watchdog() { return watchdog_; }
  Recorder& recorder() { return recorder_; }

 private:
  enum class State { kStep, kWaits };
  void set(const std::string& what, State state) {
    const std::lock_guard lock(mutex_);
    what_ = what;
    state_ = state;
    if (batches_ == 0) tell();
  }
  void tell() { state_ == State::kWaits ? watchdog_.waiting(what_) : watchdog_.step(what_); }

  comm::Watchdog& watchdog_;
  Recorder& recorder_;
  std::mutex mutex_;
  int batches_ = 0;
  State state_ = State::kStep;
  std::string what_;
};

}  // namespace muster::phases
