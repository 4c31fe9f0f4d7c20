// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <string>

namespace muster::core {

using Clock = std::chrono::steady_clock;  ///< CLOCK_MONOTONIC: all timeouts and durations
using Seconds = std::chrono::duration<double>;

/// Seconds since an arbitrary start, monotonic.
double monotonic_seconds();
/// "2026-11-21T10:37:12.345Z"
std::string utc_now();
/// "1h 02m 03s", "12.3s"
std::string human_duration(double seconds);
/// "1.5 GiB"
std::string human_bytes(double bytes);
/// "15m", "1h", "90s", "1.5h", a plain number of seconds, "none" (infinity); throws ConfigError.
double parse_duration(const std::string& text);

/// Adds the time it lives to `*total`.
class ScopedTimer {
 public:
  explicit ScopedTimer(double* total) : total_(total), start_(monotonic_seconds()) {}
  ~ScopedTimer() { *total_ += monotonic_seconds() - start_; }
  ScopedTimer(const ScopedTimer&) = delete;
  ScopedTimer& operator=(const ScopedTimer&) = delete;

 private:
  double* total_;
  double start_;
};

}  // namespace muster::core
