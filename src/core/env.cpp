// SPDX-License-Identifier: Apache-2.0
#include "muster/core/env.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>

#include "muster/core/error.h"

namespace muster::core {

std::optional<std::string> env(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

std::optional<long> env_int(const char* name) {
  const auto text = env(name);
  if (!text) return std::nullopt;
  long value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size()) {
    throw ConfigError(fmt::format("environment variable {}='{}' is not a whole number", name, *text));
  }
  return value;
}

void set_env(const char* name, const std::string& value, bool overwrite) {
  ::setenv(name, value.c_str(), overwrite);
}

}  // namespace muster::core
