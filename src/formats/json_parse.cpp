// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "formats/json_error.h"
#include "formats/json_tree.h"
#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"

namespace muster::formats {
namespace {

/// Receives the parser's events and lays the document out. A container's children wait in `pending_` until it
/// closes, then move side by side to the tree.
class TreeBuilder {
 public:
  TreeBuilder(JsonTree& tree, const JsonLimits& limits) : tree_(tree), limits_(limits) {}

  bool null() { return add({}); }
  bool boolean(bool value) {
    JsonNode node{.kind = JsonKind::kBool};
    node.integer = value ? 1 : 0;
    return add(node);
  }
  bool number_integer(std::int64_t value) {
    JsonNode node{.kind = JsonKind::kInteger, .negative = value < 0};
    node.integer = static_cast<std::uint64_t>(value);
    return add(node);
  }
  bool number_unsigned(std::uint64_t value) {
    JsonNode node{.kind = JsonKind::kInteger};
    node.integer = value;
    return add(node);
  }
  bool number_float(double value, const std::string&) {
    JsonNode node{.kind = JsonKind::kNumber};
    node.number = value;
    return add(node);
  }
  bool string(const std::string& value) {
    JsonNode node{.kind = JsonKind::kString};
    node.span = store(value);
    return add(node);
  }
  bool binary(const nlohmann::json::binary_t&) { return false; }  // never called for text
  bool key(const std::string& value) {
    key_ = store(value);
    return true;
  }
  bool start_object(std::size_t) { return open(JsonKind::kObject); }
  bool start_array(std::size_t) { return open(JsonKind::kArray); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) {
    fail(fmt::format("broken JSON at byte {}: {}", position, json_error_text(error)));
  }

  void finish() {
    if (pending_.empty()) fail("the document is empty");
    place_children(0);
  }

 private:
  struct Open {
    JsonKind kind;
    JsonSpan key;
    std::size_t first;  ///< of its children in pending_
  };

  [[noreturn]] void fail(const std::string& problem) const {
    throw core::DataError(fmt::format("{}: {}", tree_.path, problem));
  }

  JsonSpan store(const std::string& value) {
    const JsonSpan span{static_cast<std::uint32_t>(tree_.text.size()),
                        static_cast<std::uint32_t>(value.size())};
    tree_.text += value;
    return span;
  }

  bool add(JsonNode node) {
    count_value();
    node.key = std::exchange(key_, {});
    pending_.push_back(node);
    return true;
  }

  bool open(JsonKind kind) {
    count_value();
    if (open_.size() == limits_.max_depth)
      fail(fmt::format("nested deeper than {} levels", limits_.max_depth));
    open_.push_back({kind, std::exchange(key_, {}), pending_.size()});
    return true;
  }

  bool close() {
    const Open container = open_.back();
    JsonNode node{.kind = container.kind};
    node.key = container.key;
    if (container.kind == JsonKind::kObject) node.index = check_keys(container.first);
    node.span = place_children(container.first);
    open_.pop_back();
    pending_.push_back(node);
    return true;
  }

  void count_value() {
    if (++values_ > limits_.max_values) fail(fmt::format("holds more than {} values", limits_.max_values));
  }

  JsonSpan place_children(std::size_t first) {
    const JsonSpan span{static_cast<std::uint32_t>(tree_.nodes.size()),
                        static_cast<std::uint32_t>(pending_.size() - first)};
    tree_.nodes.insert(tree_.nodes.end(), pending_.begin() + static_cast<std::ptrdiff_t>(first),
                       pending_.end());
    pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(first), pending_.end());
    for (std::uint32_t at = span.begin; at < span.begin + span.size; ++at) {
      const JsonNode& node = tree_.nodes[at];
      if (node.kind != JsonKind::kArray && node.kind != JsonKind::kObject) continue;
      for (std::uint32_t child = 0; child < node.span.size; ++child)
        tree_.nodes[node.span.begin + child].parent = at;
    }
    return span;
  }

  [[noreturn]] void fail_duplicate(JsonSpan key) const {
    std::string inside;
    for (std::size_t i = 1; i < open_.size(); ++i) {
      const bool is_element = open_[i - 1].kind == JsonKind::kArray;
      if (!is_element && !inside.empty()) inside += '.';
      inside += is_element ? "[]" : core::printable(tree_.view(open_[i].key));
    }
    fail(fmt::format("key '{}' occurs twice in {}", core::printable(tree_.view(key)),
                     inside.empty() ? "the document" : "'" + inside + "'"));
  }

  /// Refuses a key that occurs twice; returns the number of the index of a large object.
  std::uint32_t check_keys(std::size_t first) {
    const std::size_t count = pending_.size() - first;
    if (count < JsonTree::kIndexFrom) {
      for (std::size_t i = first; i < pending_.size(); ++i) {
        for (std::size_t j = first; j < i; ++j) {
          if (tree_.view(pending_[i].key) == tree_.view(pending_[j].key)) fail_duplicate(pending_[i].key);
        }
      }
      return JsonNode::kNone;
    }
    JsonKeyIndex index;
    // Unpredictable, so that no file can be made whose keys all collide.
    index.seed = (std::uint64_t{std::random_device{}()} << 32) | std::random_device{}();
    index.slots.assign(std::bit_ceil(count * 2), {0, JsonNode::kNone});
    const std::size_t mask = index.slots.size() - 1;
    for (std::size_t i = 0; i < count; ++i) {
      const auto key = tree_.view(pending_[first + i].key);
      const auto hash = static_cast<std::uint32_t>(core::hash64(key, index.seed));
      std::size_t at = hash & mask;
      for (; index.slots[at].child != JsonNode::kNone; at = (at + 1) & mask) {
        if (index.slots[at].hash != hash) continue;
        if (tree_.view(pending_[first + index.slots[at].child].key) == key)
          fail_duplicate(pending_[first + i].key);
      }
      index.slots[at] = {hash, static_cast<std::uint32_t>(i)};
    }
    tree_.indexes.push_back(std::move(index));
    return static_cast<std::uint32_t>(tree_.indexes.size() - 1);
  }

  JsonTree& tree_;
  const JsonLimits& limits_;
  std::vector<JsonNode> pending_;
  std::vector<Open> open_;
  JsonSpan key_{};
  std::size_t values_ = 0;
};

}  // namespace

JsonValue parse_json(std::string_view text, const std::string& path, const JsonLimits& limits) {
  // Decoded strings are never longer than their source, so offsets into the tree's text fit 32 bits.
  const std::size_t max_bytes =
      std::min<std::size_t>(limits.max_bytes, std::numeric_limits<std::uint32_t>::max() - 1);
  if (text.size() > max_bytes) {
    throw core::DataError(
        fmt::format("{}: {} bytes of JSON; at most {} are read", path, text.size(), max_bytes));
  }
  // The parser would take a NUL for the end and never look at what follows.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    throw core::DataError(fmt::format("{}: broken JSON at byte {}: NUL byte", path, nul + 1));
  }
  auto tree = std::make_shared<JsonTree>();
  tree->path = path;
  TreeBuilder builder(*tree, limits);
  nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &builder);
  builder.finish();
  const auto root = static_cast<std::uint32_t>(tree->nodes.size() - 1);
  return {std::move(tree), root};
}

}  // namespace muster::formats
