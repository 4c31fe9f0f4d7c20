// SPDX-License-Identifier: Apache-2.0
#include "muster/config/schema.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/error.h"

namespace muster::config {
namespace {

std::string with_dashes(std::string flag) {
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

}  // namespace

Schema& Schema::add(Key key) {
  core::internal_check(find(key.name) == nullptr, fmt::format("config key '{}' is defined twice", key.name));
  for (const auto& flag : key.flags) {
    core::internal_check(find_flag(flag) == nullptr,
                         fmt::format("flag '{}' of '{}' is taken", flag, key.name));
  }
  keys_.push_back(std::move(key));
  return *this;
}

Schema& Schema::add(const Schema& other) {
  for (const auto& key : other.keys_) add(key);
  return *this;
}

Schema& Schema::make_optional(const std::string& name) {
  const auto key = std::find_if(keys_.begin(), keys_.end(), [&](const Key& k) { return k.name == name; });
  core::internal_check(key != keys_.end(), fmt::format("no config key '{}'", name));
  key->required = false;
  return *this;
}

Schema& Schema::set_default(const std::string& name, const std::string& default_value) {
  key_of(name)->default_value = default_value;
  return *this;
}

Schema& Schema::set_affects(const std::string& name, AffectsResults affects) {
  key_of(name)->affects = affects;
  return *this;
}

Schema& Schema::set_doc(const std::string& name, const std::string& doc) {
  key_of(name)->doc = doc;
  return *this;
}

Schema& Schema::remove(const std::string& name) {
  keys_.erase(key_of(name));
  return *this;
}

std::vector<Key>::iterator Schema::key_of(const std::string& name) {
  const auto key = std::find_if(keys_.begin(), keys_.end(), [&](const Key& k) { return k.name == name; });
  core::internal_check(key != keys_.end(), fmt::format("no config key '{}'", name));
  return key;
}

const Key* Schema::find(const std::string& name) const {
  const auto key = std::find_if(keys_.begin(), keys_.end(), [&](const Key& k) { return k.name == name; });
  return key == keys_.end() ? nullptr : &*key;
}

const Key* Schema::chooser() const {
  const auto key = std::find_if(keys_.begin(), keys_.end(), [](const Key& k) { return k.chooses_schema; });
  return key == keys_.end() ? nullptr : &*key;
}

const Key* Schema::find_flag(const std::string& flag) const {
  const std::string wanted = with_dashes(flag);
  const auto has_it = [&](const Key& key) {
    return std::any_of(key.flags.begin(), key.flags.end(),
                       [&](const auto& f) { return with_dashes(f) == wanted; });
  };
  const auto key = std::find_if(keys_.begin(), keys_.end(), has_it);
  return key == keys_.end() ? nullptr : &*key;
}

}  // namespace muster::config
