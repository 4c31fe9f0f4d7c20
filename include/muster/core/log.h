// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace muster::core::log {

enum class Level { kDebug, kInfo, kWarning, kError };

/// Who speaks: "rank 3/8 node7 gpu 2". Set once after MPI is up; empty before.
void set_label(std::string label);
/// Every line also goes to this file (logs/rank_00003.log); stderr gets `console_level` and above only.
void open_file(const std::string& path);
void close_file();
void set_console_level(Level level);
/// Temporarily removes a live progress line before a message and puts it back after; "" clears it.
void set_live_line(std::string line);

/// One line, written with a single write(2) so that ranks do not interleave.
void write(Level level, std::string_view message);

template <class... A>
void debug(fmt::format_string<A...> f, A&&... a) {
  write(Level::kDebug, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void info(fmt::format_string<A...> f, A&&... a) {
  write(Level::kInfo, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void warning(fmt::format_string<A...> f, A&&... a) {
  write(Level::kWarning, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void error(fmt::format_string<A...> f, A&&... a) {
  write(Level::kError, fmt::format(f, std::forward<A>(a)...));
}

/// Reads a level's name; throws ConfigError naming the valid ones.
Level level_from_name(std::string_view name);

}  // namespace muster::core::log
