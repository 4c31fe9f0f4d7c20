// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "value.h"
#include "yaml_text.h"

namespace muster::config {
namespace {

NamedValues read_sets(const Schema& schema, const Sources& sources, Problems& problems) {
  NamedValues values;
  for (const auto& [name, text] : sources.sets) {
    const Key* key = schema.find(name);
    if (key == nullptr) {
      problems.add("--set: " + unknown_key(schema, name));
      continue;
    }
    auto read = read_inline(*key, text);
    if (!read.problem) read.problem = value_problem(*key, read.value);
    if (read.problem) {
      problems.add(*key, "--set: " + *read.problem);
      continue;
    }
    read.value.origin = "--set";
    values.emplace_back(name, std::move(read.value));
  }
  return values;
}

NamedValues read_flags(const Schema& schema, const Sources& sources, Problems& problems) {
  NamedValues values;
  for (const auto& [name, texts] : sources.flags) {
    const Key* key = schema.find(name);
    core::internal_check(key != nullptr,
                         fmt::format("a flag names the key '{}', which the schema lacks", name));
    core::internal_check(is_list(key->type) || texts.size() == 1, fmt::format("'{}' takes one value", name));
    Value value;
    value.origin = flag_of(*key);
    if (is_list(key->type)) {
      for (const auto& text : texts) {
        for (auto& element : list_of(*key, text)) value.list.push_back(std::move(element));
      }
    } else {
      value.text = texts.front();
    }
    if (const auto wrong = value_problem(*key, value)) {
      problems.add(*key, fmt::format("{}: {}", value.origin, *wrong));
    } else {
      values.emplace_back(name, std::move(value));
    }
  }
  return values;
}

bool is_missing(const Key& key, const std::map<std::string, Value>& values) {
  const auto found = values.find(key.name);
  return found == values.end() || (found->second.text.empty() && found->second.list.empty());
}

/// `model: {path: MODEL}` for model.path.
std::string as_yaml(const Key& key, const std::string& word) {
  const auto parts = core::split(key.name, '.');
  std::string text = parts.back() + ": " + word;
  for (std::size_t i = parts.size() - 1; i-- > 0;) text = fmt::format("{}: {{{}}}", parts[i], text);
  return text;
}

std::string missing_key(const Key& key) {
  const std::string word = key.value_name.empty() ? "..." : key.value_name;
  return fmt::format("'{}' is required: give {} {}{}", key.name,
                     key.flags.empty() ? "--set" : key.flags.front(),
                     key.flags.empty() ? fmt::format("{}={}", key.name, word) : word,
                     fmt::format(" or write `{}` in the config file", as_yaml(key, word)));
}

}  // namespace

Config load_config(const Schema& schema, const Sources& sources) {
  Problems problems;
  std::map<std::string, Value> values;
  const auto merge = [&](const NamedValues& layer) {
    for (const auto& [name, value] : layer) values[name] = value;
  };
  if (!sources.yaml_path.empty()) merge(read_yaml_file(schema, sources.yaml_path, problems));
  merge(read_sets(schema, sources, problems));
  merge(read_flags(schema, sources, problems));
  for (const auto& key : schema.keys()) {
    if (key.required && !problems.about(key) && is_missing(key, values)) problems.add(missing_key(key));
  }
  problems.throw_if_any();
  return Config(schema, std::move(values));
}

}  // namespace muster::config
