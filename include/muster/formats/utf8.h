// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace muster::formats {

/// The length of the longest valid UTF-8 prefix: text.size() when all of it is valid. Overlong forms,
/// surrogates and code points above U+10FFFF are invalid.
std::size_t valid_utf8_prefix(std::string_view text);
inline bool is_valid_utf8(std::string_view text) {
  return valid_utf8_prefix(text) == text.size();
}

/// Sets `out` to `text` with each maximal invalid part replaced by one U+FFFD (Unicode 15, section 3.9,
/// "substitution of maximal subparts"; what Python's errors="replace" does). Returns how many were replaced.
/// `text` must not point into `out`.
std::size_t assign_utf8_replaced(std::string_view text, std::string& out);

}  // namespace muster::formats
