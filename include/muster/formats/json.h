// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace muster::formats {

enum class JsonKind : std::uint8_t { kNull, kBool, kInteger, kNumber, kString, kArray, kObject };
/// With its article, for messages: "an object".
std::string_view json_kind_name(JsonKind kind);

/// What a document may cost before it is refused.
struct JsonLimits {
  std::size_t max_bytes = std::size_t{256} << 20;
  std::size_t max_depth = 64;
  std::size_t max_values = 8'000'000;  ///< of every kind, members and elements alike
};

class JsonMembers;
class JsonElements;
struct JsonTree;

/// A value of a parsed document: a handle that keeps the document alive and knows its own place, so that
/// every error reads "config.json: key 'rope.theta' is a string, not a number". Handles are cheap to copy;
/// views point into the document.
class JsonValue {
 public:
  JsonValue(std::shared_ptr<const JsonTree> tree, std::uint32_t node) : tree_(std::move(tree)), node_(node) {}

  JsonKind kind() const;
  bool is_null() const { return kind() == JsonKind::kNull; }
  bool is_bool() const { return kind() == JsonKind::kBool; }
  bool is_integer() const { return kind() == JsonKind::kInteger; }
  bool is_number() const { return is_integer() || kind() == JsonKind::kNumber; }
  bool is_string() const { return kind() == JsonKind::kString; }
  bool is_array() const { return kind() == JsonKind::kArray; }
  bool is_object() const { return kind() == JsonKind::kObject; }

  /// DataError "<file>: key '<place>' <problem>", for callers that find a value wrong for reasons of their
  /// own.
  [[noreturn]] void fail(std::string_view problem) const;

  /// bool, int32/int64/uint32/uint64 (range checked; 1.0 is not an integer), float, double, std::string;
  /// DataError when the value is something else.
  template <class T>
  T as() const;
  /// A string without a copy; valid while any value of the document lives.
  std::string_view view() const;

  /// Members of an object or elements of an array; DataError for other kinds.
  std::size_t size() const;

  /// Objects. find() is nullopt when the key is absent; at() then throws "key '...' is missing".
  std::optional<JsonValue> find(std::string_view key) const;
  JsonValue at(std::string_view key) const;
  bool has(std::string_view key) const { return find(key).has_value(); }
  template <class T>
  T get(std::string_view key) const {
    return at(key).as<T>();
  }
  /// The fallback stands in for an absent key and for null.
  template <class T>
  T get_or(std::string_view key, T fallback) const;
  /// In file order: for (const auto& [key, value] : object.members()).
  JsonMembers members() const;

  /// Arrays.
  JsonValue element(std::size_t index) const;
  JsonElements elements() const;
  /// All elements as T.
  template <class T>
  std::vector<T> as_list() const;

 private:
  friend class JsonMembers;
  void expect(JsonKind kind) const;
  std::string_view key() const;
  JsonValue child(std::size_t index) const;

  std::shared_ptr<const JsonTree> tree_;
  std::uint32_t node_;
};

template <>
bool JsonValue::as<bool>() const;
template <>
std::int32_t JsonValue::as<std::int32_t>() const;
template <>
std::int64_t JsonValue::as<std::int64_t>() const;
template <>
std::uint32_t JsonValue::as<std::uint32_t>() const;
template <>
std::uint64_t JsonValue::as<std::uint64_t>() const;
template <>
float JsonValue::as<float>() const;
template <>
double JsonValue::as<double>() const;
template <>
std::string JsonValue::as<std::string>() const;

struct JsonMember {
  std::string_view key;
  JsonValue value;
};

/// The ranges hold the document, so they are safe over temporaries.
class JsonMembers {
 public:
  class Iterator {
   public:
    Iterator(const JsonMembers* range, std::size_t index) : range_(range), index_(index) {}
    JsonMember operator*() const { return range_->member(index_); }
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    bool operator==(const Iterator& other) const { return index_ == other.index_; }

   private:
    const JsonMembers* range_;
    std::size_t index_;
  };
  explicit JsonMembers(JsonValue object) : object_(std::move(object)), size_(object_.size()) {}
  Iterator begin() const { return {this, 0}; }
  Iterator end() const { return {this, size_}; }

 private:
  JsonMember member(std::size_t index) const {
    JsonValue value = object_.child(index);
    const auto key = value.key();
    return {key, std::move(value)};
  }
  JsonValue object_;
  std::size_t size_;
};

class JsonElements {
 public:
  class Iterator {
   public:
    Iterator(const JsonElements* range, std::size_t index) : range_(range), index_(index) {}
    JsonValue operator*() const { return range_->array_.element(index_); }
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    bool operator==(const Iterator& other) const { return index_ == other.index_; }

   private:
    const JsonElements* range_;
    std::size_t index_;
  };
  explicit JsonElements(JsonValue array) : array_(std::move(array)), size_(array_.size()) {}
  Iterator begin() const { return {this, 0}; }
  Iterator end() const { return {this, size_}; }

 private:
  JsonValue array_;
  std::size_t size_;
};

template <class T>
T JsonValue::get_or(std::string_view key, T fallback) const {
  const auto value = find(key);
  return value && !value->is_null() ? value->as<T>() : fallback;
}

template <class T>
std::vector<T> JsonValue::as_list() const {
  std::vector<T> out;
  for (const auto& value : elements()) out.push_back(value.as<T>());
  return out;
}

/// Parses one document. DataError naming `path` and the byte for: broken JSON or UTF-8, a NUL byte, a key
/// that occurs twice in its object, anything beyond the limits. Needs no recursion, so depth cannot exhaust
/// the stack.
JsonValue parse_json(std::string_view text, const std::string& path, const JsonLimits& limits = {});
/// The same from a file.
JsonValue read_json(const std::string& path, const JsonLimits& limits = {});

}  // namespace muster::formats
