// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "muster/config/schema.h"

namespace muster::config {

bool is_list(KeyType type);
/// "an integer", "a duration such as 90s, 15m or 1.5h", for messages.
std::string expectation(const Key& key);

std::optional<std::int64_t> parse_int(std::string_view text);
std::optional<double> parse_float(std::string_view text);
/// true, false, yes, no, on, off in any case.
std::optional<bool> parse_bool(std::string_view text);

/// What is wrong with a value, without its origin; nullopt when it is fine.
std::optional<std::string> value_problem(const Key& key, const Value& value);
/// The list that one scalar stands for: itself, or for integers what lies between its commas.
std::vector<std::string> list_of(const Key& key, const std::string& text);
/// One spelling for equal values. The value must be fine.
std::string normal_form(const Key& key, const Value& value);
/// The schema's default as a value.
Value default_of(const Key& key);

/// Line (from 1) of the first byte that is not UTF-8 or a control character other than tab and line ends;
/// nullopt when there is none.
std::optional<std::size_t> first_bad_line(std::string_view text);

/// "--batch-tokens" for messages; "--set run.batch_tokens" for a key without a flag.
std::string flag_of(const Key& key);

}  // namespace muster::config
