// SPDX-License-Identifier: Apache-2.0
#include "fuzz/config_checks.h"
#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "muster/core/clock.h"

namespace muster::fuzz {
namespace {

void check_words(const std::string& word) {
  const auto seconds = unless<core::ConfigError>([&] { return core::parse_duration(word); });
  expect(!seconds || *seconds >= 0, "a duration is not negative");
  const auto allowed = unless<core::ConfigError>([&] { return config::failures_allowed(word, 1000); });
  expect(!allowed || !word.ends_with('%') || *allowed <= 1000, "a share of the items is not more than all");
}

}  // namespace

/// Each line is KEY=VALUE, as --set takes it, or as a flag where it starts with a dash.
void config_values(std::string_view bytes) {
  config::Sources sources;
  while (!bytes.empty()) {
    const auto [line, rest] = cut(bytes, '\n');
    bytes = rest;
    const bool is_flag = line.starts_with('-');
    const auto [name, value] = cut(line.substr(is_flag ? 1 : 0), '=');
    check_words(std::string(value));
    if (!is_flag) {
      sources.sets.emplace_back(name, value);
    } else if (schema().find(std::string(name)) != nullptr) {  // the command line's parser knows no other
      sources.flags.emplace_back(name, std::vector<std::string>{std::string(value)});
    }
  }
  if (const auto config = load(sources)) check_config(*config);
}

}  // namespace muster::fuzz
