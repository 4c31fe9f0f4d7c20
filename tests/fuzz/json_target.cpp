// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/json.h"

#include <fmt/format.h>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "muster/core/strings.h"

namespace muster::fuzz {
namespace {

using formats::JsonKind;
using formats::JsonValue;

constexpr formats::JsonLimits kLimits{.max_bytes = 1 << 16, .max_depth = 20, .max_values = 5000};

std::string written_number(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string written(const JsonValue& value) {
  std::string out;
  switch (value.kind()) {
    case JsonKind::kNull:
      return "null";
    case JsonKind::kBool:
      return value.as<bool>() ? "true" : "false";
    case JsonKind::kInteger: {
      const auto positive = unless<core::DataError>([&] { return value.as<std::uint64_t>(); });
      return positive ? std::to_string(*positive) : std::to_string(value.as<std::int64_t>());
    }
    case JsonKind::kNumber:
      return written_number(value.as<double>());
    case JsonKind::kString:
      return core::json_quote(value.view());
    case JsonKind::kArray:
      for (const auto& element : value.elements()) out += (out.empty() ? "" : ",") + written(element);
      return "[" + out + "]";
    case JsonKind::kObject:
      for (const auto& [key, member] : value.members()) {
        out += (out.empty() ? "" : ",") + core::json_quote(key) + ":" + written(member);
      }
      return "{" + out + "}";
  }
  throw Broken("a value has a kind");
}

/// Reading a value as anything else is a DataError; nothing else can happen.
void read_as_everything(const JsonValue& value) {
  unless<core::DataError>([&] { return value.as<bool>(); });
  unless<core::DataError>([&] { return value.as<std::int32_t>(); });
  unless<core::DataError>([&] { return value.as<std::uint32_t>(); });
  unless<core::DataError>([&] { return value.as<std::int64_t>(); });
  unless<core::DataError>([&] { return value.as<std::uint64_t>(); });
  unless<core::DataError>([&] { return value.as<float>(); });
  unless<core::DataError>([&] { return value.as<std::string>(); });
  unless<core::DataError>([&] { return value.size(); });
  unless<core::DataError>([&] { return value.at("no such key").is_null(); });
  unless<core::DataError>([&] { return value.element(1 << 20).is_null(); });
  unless<core::DataError>([&] { return value.as_list<std::uint32_t>(); });
}

void check(const JsonValue& value, std::size_t depth) {
  if (value.is_array() || value.is_object())
    expect(depth < kLimits.max_depth, "no container lies deeper than the limit");
  read_as_everything(value);
  if (value.is_string()) expect(is_utf8(value.view()), "strings are valid UTF-8");
  if (value.is_array()) {
    std::size_t index = 0;
    for (const auto& element : value.elements()) {
      expect(element.kind() == value.element(index++).kind(), "an element is what its index finds");
      check(element, depth + 1);
    }
    expect(index == value.size(), "an array has as many elements as it says");
  }
  if (value.is_object()) {
    std::size_t members = 0;
    for (const auto& [key, member] : value.members()) {
      ++members;
      expect(is_utf8(key), "keys are valid UTF-8");
      expect(written(value.at(key)) == written(member), "a key finds its own value");
      check(member, depth + 1);
    }
    expect(members == value.size(), "an object has as many members as it says");
  }
}

}  // namespace

void json(std::string_view bytes) {
  const auto document =
      unless<core::DataError>([&] { return formats::parse_json(bytes, "fuzz.json", kLimits); });
  if (!document) return;
  expect(bytes.size() <= kLimits.max_bytes, "no document is larger than the limit");
  check(*document, 0);
  const std::string text = written(*document);
  // What is written may be longer than what was read, so the limit of bytes is no part of this.
  const auto again = formats::parse_json(text, "written.json",
                                         {.max_depth = kLimits.max_depth, .max_values = kLimits.max_values});
  expect(written(again) == text, "a document reads back as it was written");
}

}  // namespace muster::fuzz
