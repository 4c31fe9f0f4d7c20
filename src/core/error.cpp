// SPDX-License-Identifier: Apache-2.0
#include "muster/core/error.h"

#include <fmt/format.h>

#include <cstring>
#include <new>

namespace muster::core {

void internal_check(bool condition, std::string_view what, std::source_location where) {
  if (condition) return;
  throw InternalError(fmt::format("internal error at {}:{} ({}): {}; please report it with the log files",
                                  where.file_name(), where.line(), where.function_name(), what));
}

ExitCode exit_code_of(const std::exception& error) noexcept {
  if (const auto* ours = dynamic_cast<const Error*>(&error)) return ours->code();
  if (dynamic_cast<const std::bad_alloc*>(&error)) return ExitCode::kResources;
  return ExitCode::kInternal;
}

std::string errno_text(int error_number) {
  char buffer[128];
  return fmt::format("{} (errno {})", strerror_r(error_number, buffer, sizeof buffer), error_number);
}

}  // namespace muster::core
