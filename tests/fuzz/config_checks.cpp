// SPDX-License-Identifier: Apache-2.0
#include "fuzz/config_checks.h"

#include "fuzz/support.h"

namespace muster::fuzz {
namespace {

using config::Config;
using config::Key;
using config::KeyType;

config::Schema make_schema() {
  config::Schema out = config::common_schema();
  for (const char* name : {"model.path", "input.path", "output.dir"}) out.make_optional(name);
  out.add({.name = "fuzz.rate",
           .type = KeyType::kFloat,
           .default_value = "0.5",
           .affects = config::AffectsResults::kYes,
           .minimum = -1e300});
  out.add({.name = "fuzz.flag",
           .type = KeyType::kBool,
           .default_value = "auto",
           .affects = config::AffectsResults::kYes,
           .auto_allowed = true});
  out.add({.name = "fuzz.deep.texts",
           .type = KeyType::kStringList,
           .default_value = "[a, b]",
           .affects = config::AffectsResults::kYes});
  out.add({.name = "fuzz.deep.numbers",
           .type = KeyType::kIntList,
           .affects = config::AffectsResults::kYes,
           .minimum = -5});
  return out;
}

void expect_in_range(const Key& key, double value) {
  expect(!key.minimum || value >= *key.minimum, "an accepted value is not below the minimum");
  expect(!key.maximum || value <= *key.maximum, "an accepted value is not above the maximum");
}

/// InternalError when an accepted value cannot be read.
void read(const Config& config, const Key& key) {
  const bool is_word = config.is_auto(key.name) && key.auto_allowed;
  const bool is_nothing = config.value(key.name).text.empty() && key.default_value.empty();
  switch (key.type) {
    case KeyType::kString:
      config.string(key.name);
      return;
    case KeyType::kInt:
      if (!is_word && !is_nothing) expect_in_range(key, static_cast<double>(config.integer(key.name)));
      return;
    case KeyType::kFloat:
      if (!is_word && !is_nothing) expect_in_range(key, config.number(key.name));
      return;
    case KeyType::kBool:
      if (!is_word && !is_nothing) config.boolean(key.name);
      return;
    case KeyType::kDuration:
      if (!is_word && !is_nothing) expect_in_range(key, config.duration(key.name));
      return;
    case KeyType::kStringList:
      config.strings(key.name);
      return;
    case KeyType::kIntList:
      for (const int value : config.integers(key.name)) expect_in_range(key, value);
      return;
  }
}

}  // namespace

const config::Schema& schema() {
  static const auto* const out = new config::Schema(make_schema());
  return *out;
}

std::optional<Config> load(const config::Sources& sources) {
  return unless<core::ConfigError>([&] { return config::load_config(schema(), sources); });
}

void check_config(const Config& config) {
  for (const Key& key : schema().keys()) read(config, key);
  config::failures_allowed(config.string("run.max_failures"), 1000);

  const std::string yaml = config.to_yaml();
  expect(is_utf8(yaml), "a written config is valid UTF-8");
  const Folder folder;
  const auto again = load({.yaml_path = folder.write("resolved.yaml", yaml), .sets = {}, .flags = {}});
  expect(again.has_value(), "a written config is accepted");
  for (const Key& key : schema().keys()) {
    const auto &before = config.value(key.name), &after = again->value(key.name);
    expect(before.text == after.text && before.list == after.list, "a written value reads back: " + key.name);
  }
  expect(again->identity() == config.identity(), "a written config has the same identity");
}

}  // namespace muster::fuzz
