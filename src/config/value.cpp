// SPDX-License-Identifier: Apache-2.0
#include "value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "yaml_text.h"

namespace muster::config {
namespace {

std::string range_words(const Key& key) {
  if (key.minimum && key.maximum) return fmt::format(" from {} to {}", *key.minimum, *key.maximum);
  if (key.minimum) return fmt::format(", at least {}", *key.minimum);
  if (key.maximum) return fmt::format(", at most {}", *key.maximum);
  return "";
}

bool in_range(const Key& key, double value) {
  return (!key.minimum || value >= *key.minimum) && (!key.maximum || value <= *key.maximum);
}

/// Whether a scalar, or one element of a list, has the key's type and lies in its range.
bool scalar_fits(const Key& key, const std::string& text) {
  if (key.auto_allowed && text == "auto") return true;
  if (key.none_allowed && text == "none") return true;
  switch (key.type) {
    case KeyType::kString:
    case KeyType::kStringList:
      return true;
    case KeyType::kBool:
      return parse_bool(text).has_value();
    case KeyType::kFloat: {
      const auto value = parse_float(text);
      return value && in_range(key, *value);
    }
    case KeyType::kInt: {
      const auto value = parse_int(text);
      return value && in_range(key, static_cast<double>(*value));
    }
    case KeyType::kIntList: {  // Config::integers gives ints
      const auto value = parse_int(text);
      return value && *value >= std::numeric_limits<int>::min() &&
             *value <= std::numeric_limits<int>::max() && in_range(key, static_cast<double>(*value));
    }
    case KeyType::kDuration:
      try {
        return in_range(key, core::parse_duration(text));
      } catch (const core::ConfigError&) {
        return false;
      }
  }
  return false;
}

std::optional<std::string> scalar_problem(const Key& key, const std::string& text) {
  const auto quoted = [&] { return fmt::format("'{}' is '{}'", key.name, core::printable(text)); };
  if (first_bad_line(text)) return fmt::format("{}, which is not printable UTF-8 text", quoted());
  if (text.empty() && key.type != KeyType::kString)
    return fmt::format("'{}' is empty; expected {}", key.name, expectation(key));
  if (!key.choices.empty()) {
    if (std::find(key.choices.begin(), key.choices.end(), text) != key.choices.end()) return std::nullopt;
    const auto near = core::nearest(text, key.choices);
    return fmt::format("{}; allowed: {}{}", quoted(), core::join(key.choices, ", "),
                       near ? fmt::format("; did you mean '{}'?", *near) : "");
  }
  if (!scalar_fits(key, text)) return fmt::format("{}; expected {}", quoted(), expectation(key));
  const std::string further = key.check != nullptr ? key.check(text) : "";
  if (!further.empty()) return fmt::format("{}; expected {}", quoted(), further);
  return std::nullopt;
}

std::string normal_scalar(const Key& key, const std::string& text) {
  if (text.empty() || (key.auto_allowed && text == "auto") || (key.none_allowed && text == "none"))
    return text;
  switch (key.type) {
    case KeyType::kInt:
    case KeyType::kIntList:
      return std::to_string(parse_int(text).value());
    case KeyType::kFloat:
      return fmt::format("{}", parse_float(text).value() + 0.0);  // -0 + 0 is 0
    case KeyType::kBool:
      return parse_bool(text).value() ? "true" : "false";
    case KeyType::kDuration:
      return fmt::format("{}", core::parse_duration(text));
    case KeyType::kString:
    case KeyType::kStringList:
      break;
  }
  return text;
}

/// Bytes of the well-formed UTF-8 sequence at `at` (Unicode table 3-7), 0 when there is none.
std::size_t utf8_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  const auto tail = [&](std::size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
  const unsigned lead = byte(0), second = byte(1);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return tail(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool overlong = lead == 0xE0 && second < 0xA0, surrogate = lead == 0xED && second > 0x9F;
    return tail(1) && tail(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool overlong = lead == 0xF0 && second < 0x90, beyond = lead == 0xF4 && second > 0x8F;
    return tail(1) && tail(2) && tail(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

}  // namespace

bool is_list(KeyType type) {
  return type == KeyType::kStringList || type == KeyType::kIntList;
}

std::string expectation(const Key& key) {
  const std::string words = [&]() -> std::string {
    switch (key.type) {
      case KeyType::kInt:
        return "an integer" + range_words(key);
      case KeyType::kFloat:
        return "a number" + range_words(key);
      case KeyType::kBool:
        return "true or false";
      case KeyType::kDuration:
        return "a duration such as 90s, 15m, 1.5h or none" +
               (key.minimum ? fmt::format(", at least {}s", *key.minimum) : "");
      case KeyType::kStringList:
        return "a text or a list of texts";
      case KeyType::kIntList:
        return "a list of integers" + range_words(key);
      case KeyType::kString:
        break;
    }
    return "a text";
  }();
  return words + (key.auto_allowed ? ", or auto" : "") + (key.none_allowed ? ", or none" : "");
}

std::optional<std::int64_t> parse_int(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_float(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<bool> parse_bool(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower == "true" || lower == "yes" || lower == "on") return true;
  if (lower == "false" || lower == "no" || lower == "off") return false;
  return std::nullopt;
}

std::optional<std::string> value_problem(const Key& key, const Value& value) {
  if (!is_list(key.type)) return scalar_problem(key, value.text);
  for (const auto& element : value.list) {
    if (auto problem = scalar_problem(key, element)) return problem;
  }
  return std::nullopt;
}

std::vector<std::string> list_of(const Key& key, const std::string& text) {
  return key.type == KeyType::kIntList ? core::split(text, ',') : std::vector<std::string>{text};
}

std::string normal_form(const Key& key, const Value& value) {
  if (!is_list(key.type)) return normal_scalar(key, value.text);
  std::vector<std::string> parts;
  for (const auto& element : value.list) {
    const std::string text = normal_scalar(key, element);
    parts.push_back(key.type == KeyType::kIntList ? text : core::json_quote(text));
  }
  return fmt::format("[{}]", core::join(parts, ", "));
}

Value default_of(const Key& key) {
  Value value;
  if (is_list(key.type) && !key.default_value.empty()) {
    const auto read = read_inline(key, key.default_value);
    core::internal_check(!read.problem, fmt::format("the default of '{}' is no list", key.name));
    value = read.value;
  } else if (!is_list(key.type)) {
    value.text = key.default_value;
  }
  value.origin = "default";
  return value;
}

std::optional<std::size_t> first_bad_line(std::string_view text) {
  std::size_t line = 1;
  for (std::size_t at = 0; at < text.size();) {
    const auto c = static_cast<unsigned char>(text[at]);
    const std::size_t length = utf8_length(text, at);
    const bool control = (c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7F;
    if (length == 0 || control) return line;
    if (c == '\n') ++line;
    at += length;
  }
  return std::nullopt;
}

std::string flag_of(const Key& key) {
  const auto longest =
      std::find_if(key.flags.begin(), key.flags.end(), [](const auto& f) { return f.starts_with("--"); });
  if (longest != key.flags.end()) return *longest;
  return key.flags.empty() ? "--set " + key.name : key.flags.front();
}

}  // namespace muster::config
