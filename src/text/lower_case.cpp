// SPDX-License-Identifier: Apache-2.0
#include "muster/text/lower_case.h"

#include <fmt/format.h>
#include <unicode/ucasemap.h>

#include <limits>

#include "muster/core/error.h"

namespace muster::text {
namespace {

UCaseMap* open_root_case_map() {
  UErrorCode status = U_ZERO_ERROR;
  UCaseMap* const map = ucasemap_open("", U_FOLD_CASE_DEFAULT, &status);  // "": no language's special rules
  core::internal_check(U_SUCCESS(status), "ICU has no case map");
  return map;
}

}  // namespace

std::string lower_case(std::string_view text) {
  // Read-only once it is open, so threads may share it; kept for the life of the process.
  static const UCaseMap* const map = open_root_case_map();
  if (text.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max() / 3)) {
    throw core::DataError(fmt::format("a text of {} bytes is too long to be put in lower case", text.size()));
  }
  const auto length = static_cast<std::int32_t>(text.size());
  std::string out(text.size() + text.size() / 8 + 16, '\0');
  for (;;) {
    UErrorCode status = U_ZERO_ERROR;
    const auto needed = ucasemap_utf8ToLower(map, out.data(), static_cast<std::int32_t>(out.size()),
                                             text.data(), length, &status);
    out.resize(static_cast<std::size_t>(needed));
    if (status != U_BUFFER_OVERFLOW_ERROR) {
      core::internal_check(U_SUCCESS(status), u_errorName(status));
      return out;
    }
  }
}

}  // namespace muster::text
