// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "muster/core/clock.h"
#include "muster/core/env.h"
#include "muster/core/log.h"

namespace muster::phases {
namespace {

constexpr double kQuietInterval = 30;

bool live() {
  return ::isatty(STDERR_FILENO) == 1 && core::env("TERM") != "dumb";
}

}  // namespace

ProgressLine::ProgressLine(const comm::Watchdog& watchdog, Config config)
    : watchdog_(watchdog),
      config_(std::move(config)),
      start_(core::monotonic_seconds()),
      thread_([this] { loop(); }) {}

ProgressLine::~ProgressLine() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  changed_.notify_all();
  thread_.join();
  core::log::set_live_line("");
}

void ProgressLine::loop() {
  double last_line = start_;
  bool time_up = false;
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, std::chrono::seconds(1), [&] { return done_; })) {
    const double now = core::monotonic_seconds();
    if (!time_up && now - start_ > config_.max_seconds) {
      time_up = true;
      config_.on_time_up();
    }
    if (live()) {
      core::log::set_live_line(line());
    } else if (now - last_line >= kQuietInterval) {
      last_line = now;
      core::log::info("{}", line());
    }
  }
}

// Items that are not planned yet count as long as the average of those that are.
double ProgressLine::seconds_left(std::uint64_t items_done, std::uint64_t work_done, double elapsed) const {
  const auto to_do = static_cast<double>(config_.total - std::min(config_.done_before, config_.total));
  if (config_.planned == nullptr) {
    if (items_done == 0) return -1;
    return std::max(0.0, to_do / static_cast<double>(items_done) - 1) * elapsed;
  }
  const auto planned_items = static_cast<double>(config_.planned->items);
  if (items_done == 0 || work_done == 0 || planned_items == 0) return -1;
  const double whole = static_cast<double>(config_.planned->length) * std::max(1.0, to_do / planned_items);
  return std::max(0.0, whole - static_cast<double>(work_done)) * elapsed / static_cast<double>(work_done);
}

std::string ProgressLine::line() const {
  std::uint64_t done = 0, work = 0;
  int slowest = 0, rank = 0;
  std::uint64_t least = UINT64_MAX;
  for (const auto& beat : watchdog_.read_board()) {
    done += beat.done;
    work += beat.work;
    if (rank % config_.ranks_an_item == 0 && beat.work < least) {
      least = beat.work;
      slowest = rank;
    }
    ++rank;
  }
  const double elapsed = core::monotonic_seconds() - start_;
  const double rate = elapsed > 0 ? static_cast<double>(done) / elapsed : 0;
  const double left = seconds_left(done, work, elapsed);
  const std::uint64_t all = done + config_.done_before;
  return fmt::format(
      "{}/{} {} ({:.1f}%), {:.1f}/s, {} left{}", all, config_.total, config_.item,
      config_.total > 0 ? 100.0 * static_cast<double>(all) / static_cast<double>(config_.total) : 100.0, rate,
      left >= 0 ? core::human_duration(left) : "unknown time",
      rank > 1 ? fmt::format(", slowest rank {}", slowest) : "");
}

}  // namespace muster::phases
