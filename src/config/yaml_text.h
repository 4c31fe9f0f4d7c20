// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "muster/config/schema.h"

namespace muster::config {

/// Collects what is wrong, so that a user sees all of it at once; counts beyond a screenful.
class Problems {
 public:
  void add(std::string line);
  /// A problem with the value of a key, so that nobody calls the key missing as well.
  void add(const Key& key, std::string line);
  bool about(const Key& key) const { return keys_.contains(key.name); }
  bool empty() const { return lines_.empty(); }
  /// Suggestions cost time; a file with thousands of wrong keys gets none beyond the lines that are shown.
  bool full() const { return lines_.size() >= kShown; }
  /// Throws a ConfigError with one problem a line when there is one.
  void throw_if_any() const;

 private:
  static constexpr std::size_t kShown = 40;
  std::vector<std::string> lines_;
  std::set<std::string> keys_;
  std::size_t hidden_ = 0;
};

/// "unknown key 'run.batch_tokns'; did you mean 'run.batch_tokens'?" without where.
std::string unknown_key(const Schema& schema, const std::string& name);

using NamedValues = std::vector<std::pair<std::string, Value>>;

/// Values of a config file, checked; problems as "configs/a.yaml:12: ...".
NamedValues read_yaml_file(const Schema& schema, const std::string& path, Problems& problems);

/// A value of --set or a list's default: text as it is, but `[a, b]` and quoted texts are YAML.
struct InlineValue {
  Value value;
  std::optional<std::string> problem;
};
InlineValue read_inline(const Key& key, const std::string& text);

}  // namespace muster::config
