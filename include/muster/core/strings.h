// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace muster::core {

/// The candidate with the smallest Damerau-Levenshtein distance, when it is near enough to be a typo.
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);
std::vector<std::string> split(std::string_view text, char separator);
std::string join(std::span<const std::string> parts, std::string_view separator);
std::string_view trim(std::string_view text);
/// JSON string literal with quotes; control characters escaped, bytes above 0x7f kept.
std::string json_quote(std::string_view text);
/// Text of a person's making, made safe for a terminal: control characters become \xNN, cut at `max_bytes`.
std::string printable(std::string_view text, std::size_t max_bytes = 80);

}  // namespace muster::core
