// SPDX-License-Identifier: Apache-2.0
#include "muster/core/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <mutex>

#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/file.h"

namespace muster::core::log {
namespace {

struct State {
  std::mutex mutex;
  std::string label;
  std::string live_line;
  int file = -1;
  Level console_level = Level::kInfo;
};

// Never destroyed: threads may log until the process ends.
State& state() {
  static State* const instance = new State;
  return *instance;
}

constexpr std::string_view kNames[] = {"debug", "info", "warning", "error"};

void put(int fd, std::string_view text) {
  // A closed stderr or a full log disk must not stop the work.
  [[maybe_unused]] const auto ignored = ::write(fd, text.data(), text.size());
}

}  // namespace

void set_label(std::string label) {
  const std::lock_guard lock(state().mutex);
  state().label = std::move(label);
}

void open_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) throw OutputError(fmt::format("cannot open log file {}: {}", path, errno_text(errno)));
  const std::lock_guard lock(state().mutex);
  if (state().file >= 0) ::close(state().file);
  state().file = fd;
}

void close_file() {
  const std::lock_guard lock(state().mutex);
  if (state().file >= 0) ::close(state().file);
  state().file = -1;
}

void set_console_level(Level level) {
  const std::lock_guard lock(state().mutex);
  state().console_level = level;
}

void set_live_line(std::string line) {
  const std::lock_guard lock(state().mutex);
  auto& s = state();
  if (line.empty() && s.live_line.empty()) return;
  s.live_line = std::move(line);
  put(STDERR_FILENO, "\r\x1b[K" + s.live_line);
}

void write(Level level, std::string_view message) {
  const std::lock_guard lock(state().mutex);
  auto& s = state();
  const std::string who = s.label.empty() ? std::string("muster: ") : fmt::format("[{}] ", s.label);
  const std::string what =
      level == Level::kInfo ? std::string() : fmt::format("{}: ", kNames[static_cast<int>(level)]);
  if (s.file >= 0) put(s.file, fmt::format("{} {}{}{}\n", utc_now(), who, what, message));
  if (level < s.console_level) return;
  if (s.live_line.empty()) {
    put(STDERR_FILENO, fmt::format("{}{}{}\n", who, what, message));
  } else {
    put(STDERR_FILENO, fmt::format("\r\x1b[K{}{}{}\n{}", who, what, message, s.live_line));
  }
}

Level level_from_name(std::string_view name) {
  for (int i = 0; i < 4; ++i) {
    if (kNames[i] == name) return static_cast<Level>(i);
  }
  throw ConfigError(fmt::format("unknown log level '{}'; use debug, info, warning or error", name));
}

}  // namespace muster::core::log
