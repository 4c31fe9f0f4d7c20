// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <limits>
#include <set>

#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "value.h"
#include "yaml_text.h"

namespace muster::config {
namespace {

const Key& typed_key(const Schema& schema, const std::string& name, std::initializer_list<KeyType> types) {
  const Key* key = schema.find(name);
  core::internal_check(key != nullptr, fmt::format("no config key '{}'", name));
  core::internal_check(std::find(types.begin(), types.end(), key->type) != types.end(),
                       fmt::format("config key '{}' is read as another type than it has", name));
  return *key;
}

template <class T>
T present(const std::optional<T>& value, const std::string& name, const std::string& text) {
  core::internal_check(value.has_value(),
                       fmt::format("config key '{}' is read while it is '{}'", name, text));
  return *value;
}

/// Texts that any YAML 1.1 or 1.2 reader takes for a string without quotes; what could be a bool, a number, a
/// date or null in one of them is quoted.
bool plain_is_safe(const std::string& text) {
  if (text.empty() || parse_bool(text) || text.size() > 200) return false;
  static constexpr std::string_view kWords[] = {"y", "Y", "n", "N", "null", "Null", "NULL"};
  if (std::find(std::begin(kWords), std::end(kWords), text) != std::end(kWords)) return false;
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto is_inner = [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' || c == '/';
  };
  return (is_letter(text.front()) || text.front() == '/') && std::all_of(text.begin(), text.end(), is_inner);
}

void emit_text(YAML::Emitter& out, const Key& key, const std::string& text) {
  const bool is_text = key.type == KeyType::kString || key.type == KeyType::kStringList;
  if (is_text ? plain_is_safe(text) : !text.empty()) {
    out << text;
  } else {
    out << YAML::DoubleQuoted << text;
  }
}

void emit_value(YAML::Emitter& out, const Key& key, const Value& value) {
  if (!is_list(key.type)) return emit_text(out, key, value.text);
  out << YAML::Flow << YAML::BeginSeq;
  for (const auto& element : value.list) emit_text(out, key, element);
  out << YAML::EndSeq;
}

/// Whether a value can be left out: it is nothing, as by default. An empty number or choice could not be read
/// back.
bool is_absent(const Key& key, const Value& value) {
  return key.default_value.empty() && value.text.empty() && value.list.empty();
}

/// The keys below `prefix`, each section once, where its first key stands.
void emit_section(YAML::Emitter& out, const Config& config, const std::string& prefix) {
  out << YAML::BeginMap;
  std::set<std::string> seen;
  for (const auto& key : config.schema().keys()) {
    if (!key.name.starts_with(prefix) || is_absent(key, config.value(key.name))) continue;
    const auto dot = key.name.find('.', prefix.size());
    const std::string part =
        key.name.substr(prefix.size(), dot == std::string::npos ? dot : dot - prefix.size());
    if (!seen.insert(part).second) continue;
    out << YAML::Key << part << YAML::Value;
    if (dot == std::string::npos) {
      emit_value(out, key, config.value(key.name));
    } else {
      emit_section(out, config, prefix + part + '.');
    }
  }
  out << YAML::EndMap;
}

}  // namespace

Config::Config(Schema schema, std::map<std::string, Value> values)
    : schema_(std::move(schema)), values_(std::move(values)) {
  Problems problems;
  for (const auto& [name, value] : values_) {
    const Key* key = schema_.find(name);
    if (key == nullptr) {
      problems.add(fmt::format("{}: {}", value.origin, unknown_key(schema_, name)));
    } else if (const auto wrong = value_problem(*key, value)) {
      problems.add(fmt::format("{}: {}", value.origin, *wrong));
    }
  }
  problems.throw_if_any();
  for (const auto& key : schema_.keys()) values_.try_emplace(key.name, default_of(key));
}

const Value& Config::value(const std::string& name) const {
  const auto found = values_.find(name);
  core::internal_check(found != values_.end(), fmt::format("no config key '{}'", name));
  return found->second;
}

std::string Config::string(const std::string& name) const {
  core::internal_check(!is_list(schema_.find(name) ? schema_.find(name)->type : KeyType::kString),
                       fmt::format("config key '{}' is a list", name));
  return value(name).text;
}

std::int64_t Config::integer(const std::string& name) const {
  const Key& key = typed_key(schema_, name, {KeyType::kInt});
  const std::string& text = value(name).text;
  if (key.none_allowed && text == "none") return std::numeric_limits<std::int64_t>::max();
  return present(parse_int(text), name, text);
}

double Config::number(const std::string& name) const {
  typed_key(schema_, name, {KeyType::kFloat, KeyType::kInt});
  return present(parse_float(value(name).text), name, value(name).text);
}

bool Config::boolean(const std::string& name) const {
  typed_key(schema_, name, {KeyType::kBool});
  return present(parse_bool(value(name).text), name, value(name).text);
}

double Config::duration(const std::string& name) const {
  typed_key(schema_, name, {KeyType::kDuration});
  return core::parse_duration(value(name).text);
}

std::vector<std::string> Config::strings(const std::string& name) const {
  typed_key(schema_, name, {KeyType::kStringList});
  return value(name).list;
}

std::vector<int> Config::integers(const std::string& name) const {
  typed_key(schema_, name, {KeyType::kIntList});
  std::vector<int> out;
  for (const auto& text : value(name).list)
    out.push_back(static_cast<int>(present(parse_int(text), name, text)));
  return out;
}

bool Config::is_auto(const std::string& name) const {
  return value(name).text == "auto";
}

bool Config::is_default(const std::string& name) const {
  return value(name).origin == "default";
}

void Config::resolve(const std::string& name, const std::string& text) {
  const Key* key = schema_.find(name);
  core::internal_check(key != nullptr && !is_list(key->type), fmt::format("'{}' cannot be resolved", name));
  const Value resolved{.text = text, .list = {}, .origin = "auto"};
  const auto wrong = value_problem(*key, resolved);
  core::internal_check(!wrong, wrong.value_or(""));
  values_[name] = resolved;
}

std::string Config::to_yaml() const {
  YAML::Emitter out;
  emit_section(out, *this, "");
  core::internal_check(out.good(),
                       fmt::format("the config cannot be written as YAML: {}", out.GetLastError()));
  return std::string(out.c_str()) + '\n';
}

std::map<std::string, std::string> Config::identity() const {
  std::map<std::string, std::string> out;
  for (const auto& key : schema_.keys()) {
    if (key.affects == AffectsResults::kYes) out[key.name] = normal_form(key, value(key.name));
  }
  return out;
}

}  // namespace muster::config
