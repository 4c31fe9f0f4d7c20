// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "muster/formats/json.h"

namespace muster::formats {

/// A key or string in JsonTree::text, or the children of a container in JsonTree::nodes.
struct JsonSpan {
  std::uint32_t begin;
  std::uint32_t size;
};

struct JsonNode {
  static constexpr std::uint32_t kNone = UINT32_MAX;

  JsonKind kind = JsonKind::kNull;
  bool negative = false;  ///< kInteger: `integer` holds a two's complement int64
  std::uint32_t parent = kNone;
  std::uint32_t index = kNone;  ///< kObject: its entry in JsonTree::indexes when it is large
  JsonSpan key{};               ///< when the parent is an object
  union {
    std::uint64_t integer = 0;  ///< kInteger, kBool
    double number;
    JsonSpan span;  ///< kString: text, kArray and kObject: children
  };
};

/// Open addressing over an object's children; an empty slot has child == kNone.
struct JsonKeyIndex {
  struct Slot {
    std::uint32_t hash;
    std::uint32_t child;
  };
  std::uint64_t seed = 0;
  std::vector<Slot> slots;  ///< a power of two
};

/// A whole document in three flat arrays: freeing it needs no recursion and the children of a container lie
/// side by side.
struct JsonTree {
  static constexpr std::size_t kIndexFrom = 17;  ///< smaller objects are searched from front to back

  std::string path;
  std::string text;
  std::vector<JsonNode> nodes;
  std::vector<JsonKeyIndex> indexes;

  std::string_view view(JsonSpan span) const { return std::string_view(text).substr(span.begin, span.size); }
  /// "model.vocab[3]", "" for the document itself.
  std::string place(std::uint32_t node) const;
};

}  // namespace muster::formats
