// SPDX-License-Identifier: Apache-2.0
#include "models/json_text.h"

#include <fmt/format.h>

#include <string_view>
#include <vector>

#include "muster/core/strings.h"

namespace muster::models {
namespace {

std::string integer_text(const formats::JsonValue& value) {
  // Beyond int64 there are only unsigned ones; as<> says so where a value fits neither.
  try {
    return std::to_string(value.as<std::int64_t>());
  } catch (const std::exception&) {
    return std::to_string(value.as<std::uint64_t>());
  }
}

// The shortest text that reads back as the same double, and as one, not as an integer.
std::string number_text(double value) {
  std::string text = fmt::format("{}", value);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string enclosed(const std::vector<std::string>& parts, std::string_view brackets, int level) {
  if (parts.empty()) return std::string(brackets);
  const std::string indent(2 * static_cast<std::size_t>(level), ' ');
  std::string out(1, brackets[0]);
  for (const std::string& part : parts)
    out += fmt::format("{}\n{}  {}", out.size() > 1 ? "," : "", indent, part);
  return out + fmt::format("\n{}{}", indent, brackets[1]);
}

std::string member_text(std::string_view key, const std::string& value) {
  return fmt::format("{}: {}", core::json_quote(key), value);
}

}  // namespace

std::string json_text(const formats::JsonValue& value, int level) {
  std::vector<std::string> parts;
  switch (value.kind()) {
    case formats::JsonKind::kNull:
      return "null";
    case formats::JsonKind::kBool:
      return value.as<bool>() ? "true" : "false";
    case formats::JsonKind::kInteger:
      return integer_text(value);
    case formats::JsonKind::kNumber:
      return number_text(value.as<double>());
    case formats::JsonKind::kString:
      return core::json_quote(value.view());
    case formats::JsonKind::kArray:
      for (const auto& element : value.elements()) parts.push_back(json_text(element, level + 1));
      return enclosed(parts, "[]", level);
    case formats::JsonKind::kObject:
      for (const auto& [key, member] : value.members())
        parts.push_back(member_text(key, json_text(member, level + 1)));
      return enclosed(parts, "{}", level);
  }
  return "null";
}

std::string json_text_with(const formats::JsonValue& object, std::map<std::string, std::string> changes) {
  std::vector<std::string> parts;
  for (const auto& [key, member] : object.members()) {
    const auto change = changes.find(std::string(key));
    parts.push_back(member_text(key, change == changes.end() ? json_text(member, 1) : change->second));
    if (change != changes.end()) changes.erase(change);
  }
  for (const auto& [key, text] : changes) parts.push_back(member_text(key, text));
  return enclosed(parts, "{}", 0);
}

}  // namespace muster::models
