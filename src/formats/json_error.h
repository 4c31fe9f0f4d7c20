// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "muster/core/strings.h"

namespace muster::formats {

/// The parser's own sentence without its prefixes, safe to show.
inline std::string json_error_text(const nlohmann::json::exception& error) {
  // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ..."
  std::string_view what = error.what();
  for (const std::string_view prefix : {"] ", "parse error at ", ": "}) {
    if (const auto at = what.find(prefix); at != std::string_view::npos)
      what.remove_prefix(at + prefix.size());
  }
  return core::printable(what, 200);
}

}  // namespace muster::formats
