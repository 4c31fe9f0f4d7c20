// SPDX-License-Identifier: Apache-2.0
#include "muster/comm/watchdog.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <fstream>
#include <mutex>
#include <thread>

#include "comm/board.h"
#include "comm/hang_verdict.h"
#include "muster/core/clock.h"
#include "muster/core/log.h"

namespace muster::comm {
namespace {

constexpr int kTicksBetweenReadings = 3;  // a live rank writes at least twice in between
constexpr double kMostTicksAtOnce = 3;    // a longer gap was a suspended process, not a long step

enum class Doing { kStep, kWaiting, kNothing };

bool is_zombie(std::int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text);
  const auto end_of_name = text.rfind(") ");
  return end_of_name != std::string::npos && end_of_name + 2 < text.size() && text[end_of_name + 2] == 'Z';
}

bool is_gone(std::int64_t pid) {
  return (::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) || is_zombie(pid);
}

WatchdogConfig with_defaults(WatchdogConfig config) {
  if (config.cause_path.empty()) config.cause_path = config.board_path + ".cause";
  return config;
}

}  // namespace

struct Watchdog::Impl {
  Impl(const RankPlace& where, WatchdogConfig settings)
      : place(where),
        config(with_defaults(std::move(settings))),
        board(config.board_path, place.rank, place.size, place.job) {
    beat.pid = ::getpid();
    beat.host = place.host;
  }

  const RankPlace place;
  const WatchdogConfig config;
  Board board;

  std::mutex mutex;
  std::condition_variable stop_changed;
  bool stop = false;
  Beat beat;
  std::mutex writing;  // one writer of the slot at a time: the thread, or leave()
  bool left = false;

  // Only the watchdog's thread uses these.
  double last_tick = core::monotonic_seconds();
  bool stop_file_seen = false;
  bool write_failed = false;
  std::vector<Beat> first_reading;
  int ticks_since_reading = 0;
  std::thread thread;

  void begin(const std::string& what, Doing doing) {
    const std::lock_guard lock(mutex);
    ++beat.steps;
    beat.what = what;
    beat.waiting = doing == Doing::kWaiting;
    beat.step_seconds = doing == Doing::kNothing ? -1 : 0;
  }

  void run() {
    for (;;) {
      tick();
      std::unique_lock lock(mutex);
      if (stop_changed.wait_for(lock, core::Seconds(config.tick_seconds), [this] { return stop; })) return;
    }
  }

  void tick() {
    Beat mine;
    if (!write_beat(mine) && !std::exchange(write_failed, true)) {
      core::log::warning("cannot write the watchdog's board {}; other ranks may take this one for stopped",
                         config.board_path);
    }
    look_for_stop_file();
    watch(mine.step_seconds >= config.hang_seconds);
  }

  bool write_beat(Beat& mine) {
    const std::lock_guard lock(writing);
    mine = next_beat();
    return left || board.write(mine);
  }

  void leave() {
    const std::lock_guard lock(writing);
    left = true;
    Beat last = next_beat();
    last.counter = 0;
    board.write(last);
  }

  Beat next_beat() {
    const double now = core::monotonic_seconds();
    const double passed = std::min(now - last_tick, kMostTicksAtOnce * config.tick_seconds);
    last_tick = now;
    const std::lock_guard lock(mutex);
    ++beat.counter;
    if (beat.step_seconds >= 0) beat.step_seconds += passed;
    return beat;
  }

  void look_for_stop_file() {
    if (stop_file_seen || config.stop_path.empty() || ::access(config.stop_path.c_str(), F_OK) != 0) return;
    stop_file_seen = true;
    if (config.on_stop) config.on_stop();
  }

  /// Reads the board when this rank is overdue and again a few ticks later: a stopped rank shows between the
  /// two.
  void watch(bool overdue) {
    if (!overdue) {
      first_reading.clear();
      return;
    }
    if (first_reading.empty()) {
      first_reading = board.read();
      ticks_since_reading = 0;
      return;
    }
    if (++ticks_since_reading < kTicksBetweenReadings) return;
    const auto verdict = judge_hang(first_reading, board.read(), place.rank, config.hang_seconds);
    first_reading.clear();
    if (verdict) end_job(*verdict);
  }

  void end_job(const HangVerdict& verdict) {
    const std::string text = fmt::format(
        "no progress for {}: {}; ending the job, run the same command again to finish (hang_timeout sets the "
        "limit)",
        core::human_duration(config.hang_seconds), verdict.text);
    if (claim_once(config.cause_path)) {
      core::log::error("{}", text);
    } else {
      core::log::debug("{}", text);  // another rank said so on the console; the log file has it
    }
    if (config.on_hang) config.on_hang();
    Session::abort(static_cast<int>(core::ExitCode::kInternal));
  }
};

Watchdog::Watchdog(const RankPlace& place, WatchdogConfig config)
    : impl_(std::make_unique<Impl>(place, std::move(config))) {
  // An earlier run's claim must not silence this one.
  if (place.rank == 0) ::unlink(impl_->config.cause_path.c_str());
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stop = true;
  }
  impl_->stop_changed.notify_one();
  impl_->thread.join();
}

void Watchdog::step(const std::string& what) {
  impl_->begin(what, Doing::kStep);
}

void Watchdog::waiting(const std::string& what) {
  impl_->begin(what, Doing::kWaiting);
}

void Watchdog::idle() {
  impl_->begin("", Doing::kNothing);
}

void Watchdog::set_phase(const std::string& phase) {
  const std::lock_guard lock(impl_->mutex);
  impl_->beat.phase = phase;
}

void Watchdog::add_progress(std::uint64_t items, std::uint64_t work, double busy_seconds) {
  const std::lock_guard lock(impl_->mutex);
  impl_->beat.done += items;
  impl_->beat.work += work;
  impl_->beat.busy_seconds += busy_seconds;
}

std::vector<Beat> Watchdog::read_board() const {
  return impl_->board.read();
}

void Watchdog::leave() {
  impl_->leave();
}

std::vector<int> Watchdog::dead_ranks() const {
  std::vector<int> dead;
  const auto beats = read_board();
  for (std::size_t r = 0; r < beats.size(); ++r) {
    if (beats[r].counter > 0 && beats[r].host == impl_->place.host && is_gone(beats[r].pid))
      dead.push_back(static_cast<int>(r));
  }
  if (dead.empty()) return dead;
  // Who left between the reading and the look at its process had said so before it ended.
  const auto now = read_board();
  std::erase_if(dead, [&](int rank) { return now[static_cast<std::size_t>(rank)].counter == 0; });
  return dead;
}

bool claim_once(const std::string& path) {
  const core::UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  // When it cannot be told, a cause printed twice is better than none.
  return static_cast<bool>(file) || errno != EEXIST;
}

}  // namespace muster::comm
