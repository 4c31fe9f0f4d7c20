// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>

namespace muster::core {

/// The only place that reads the environment. Empty values count as unset.
std::optional<std::string> env(const char* name);
/// An integer variable; ConfigError when it is set to something else.
std::optional<long> env_int(const char* name);
/// Sets a variable for this process and its children; call before threads exist.
void set_env(const char* name, const std::string& value, bool overwrite);

}  // namespace muster::core
