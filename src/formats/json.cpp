// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/json.h"

#include <fmt/format.h>

#include <limits>

#include "formats/json_tree.h"
#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/strings.h"

namespace muster::formats {
namespace {

constexpr std::size_t kShownKeyBytes = 100;

}  // namespace

std::string_view json_kind_name(JsonKind kind) {
  switch (kind) {
    case JsonKind::kNull:
      return "null";
    case JsonKind::kBool:
      return "a boolean";
    case JsonKind::kInteger:
      return "an integer";
    case JsonKind::kNumber:
      return "a number";
    case JsonKind::kString:
      return "a string";
    case JsonKind::kArray:
      return "an array";
    case JsonKind::kObject:
      return "an object";
  }
  return "unknown";
}

std::string JsonTree::place(std::uint32_t node) const {
  std::string out;
  for (std::uint32_t at = node; nodes[at].parent != JsonNode::kNone; at = nodes[at].parent) {
    const JsonNode& parent = nodes[nodes[at].parent];
    std::string step;
    if (parent.kind == JsonKind::kObject) {
      step = core::printable(view(nodes[at].key), kShownKeyBytes);
      if (parent.parent != JsonNode::kNone) step.insert(0, 1, '.');
    } else {
      step = fmt::format("[{}]", at - parent.span.begin);
    }
    out.insert(0, step);
  }
  return out;
}

JsonKind JsonValue::kind() const {
  return tree_->nodes[node_].kind;
}

void JsonValue::fail(std::string_view problem) const {
  const std::string place = tree_->place(node_);
  if (place.empty()) throw core::DataError(fmt::format("{}: the document {}", tree_->path, problem));
  throw core::DataError(fmt::format("{}: key '{}' {}", tree_->path, place, problem));
}

void JsonValue::expect(JsonKind kind) const {
  if (this->kind() == kind) return;
  fail(fmt::format("is {}, not {}", json_kind_name(this->kind()), json_kind_name(kind)));
}

std::string_view JsonValue::view() const {
  expect(JsonKind::kString);
  return tree_->view(tree_->nodes[node_].span);
}

std::string_view JsonValue::key() const {
  return tree_->view(tree_->nodes[node_].key);
}

JsonValue JsonValue::child(std::size_t index) const {
  return {tree_, tree_->nodes[node_].span.begin + static_cast<std::uint32_t>(index)};
}

std::size_t JsonValue::size() const {
  if (!is_object()) expect(JsonKind::kArray);
  return tree_->nodes[node_].span.size;
}

std::optional<JsonValue> JsonValue::find(std::string_view key) const {
  expect(JsonKind::kObject);
  const JsonNode& object = tree_->nodes[node_];
  const auto key_of = [&](std::uint32_t child) {
    return tree_->view(tree_->nodes[object.span.begin + child].key);
  };
  if (object.index == JsonNode::kNone) {
    for (std::uint32_t i = 0; i < object.span.size; ++i) {
      if (key_of(i) == key) return child(i);
    }
    return std::nullopt;
  }
  const JsonKeyIndex& index = tree_->indexes[object.index];
  const std::size_t mask = index.slots.size() - 1;
  const auto hash = static_cast<std::uint32_t>(core::hash64(key, index.seed));
  for (std::size_t at = hash & mask; index.slots[at].child != JsonNode::kNone; at = (at + 1) & mask) {
    if (index.slots[at].hash == hash && key_of(index.slots[at].child) == key)
      return child(index.slots[at].child);
  }
  return std::nullopt;
}

JsonValue JsonValue::at(std::string_view key) const {
  if (auto value = find(key)) return *std::move(value);
  std::string place = tree_->place(node_);
  if (!place.empty()) place += '.';
  throw core::DataError(
      fmt::format("{}: key '{}{}' is missing", tree_->path, place, core::printable(key, kShownKeyBytes)));
}

JsonMembers JsonValue::members() const {
  expect(JsonKind::kObject);
  return JsonMembers(*this);
}

JsonValue JsonValue::element(std::size_t index) const {
  expect(JsonKind::kArray);
  if (index >= size()) fail(fmt::format("has {} elements; number {} is missing", size(), index));
  return child(index);
}

JsonElements JsonValue::elements() const {
  expect(JsonKind::kArray);
  return JsonElements(*this);
}

template <>
bool JsonValue::as<bool>() const {
  expect(JsonKind::kBool);
  return tree_->nodes[node_].integer != 0;
}

template <>
std::int64_t JsonValue::as<std::int64_t>() const {
  expect(JsonKind::kInteger);
  const JsonNode& node = tree_->nodes[node_];
  if (!node.negative && node.integer > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    fail(fmt::format("is {}, too large", node.integer));
  }
  return static_cast<std::int64_t>(node.integer);
}

template <>
std::uint64_t JsonValue::as<std::uint64_t>() const {
  expect(JsonKind::kInteger);
  const JsonNode& node = tree_->nodes[node_];
  if (node.negative)
    fail(fmt::format("is {}, but must not be negative", static_cast<std::int64_t>(node.integer)));
  return node.integer;
}

template <>
std::int32_t JsonValue::as<std::int32_t>() const {
  const auto value = as<std::int64_t>();
  if (value < std::numeric_limits<std::int32_t>::min() || value > std::numeric_limits<std::int32_t>::max()) {
    fail(fmt::format("is {}, which does not fit 32 bits", value));
  }
  return static_cast<std::int32_t>(value);
}

template <>
std::uint32_t JsonValue::as<std::uint32_t>() const {
  const auto value = as<std::uint64_t>();
  if (value > std::numeric_limits<std::uint32_t>::max())
    fail(fmt::format("is {}, which does not fit 32 bits", value));
  return static_cast<std::uint32_t>(value);
}

template <>
double JsonValue::as<double>() const {
  const JsonNode& node = tree_->nodes[node_];
  if (is_integer()) {
    return node.negative ? static_cast<double>(static_cast<std::int64_t>(node.integer))
                         : static_cast<double>(node.integer);
  }
  expect(JsonKind::kNumber);
  return node.number;
}

template <>
float JsonValue::as<float>() const {
  return static_cast<float>(as<double>());
}

template <>
std::string JsonValue::as<std::string>() const {
  return std::string(view());
}

JsonValue read_json(const std::string& path, const JsonLimits& limits) {
  return parse_json(core::read_file(path, limits.max_bytes), path, limits);
}

}  // namespace muster::formats
