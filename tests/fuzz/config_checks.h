// SPDX-License-Identifier: Apache-2.0
// What must hold of any configuration that was accepted.
#pragma once
#include <optional>

#include "muster/config/schema.h"

namespace muster::fuzz {

/// The keys of every phase, none required, and one of each kind that they lack.
const config::Schema& schema();
/// nullopt when the sources are refused, which is a ConfigError.
std::optional<config::Config> load(const config::Sources& sources);
/// Every key can be read as its type, and the config written as YAML is the same config when it is read.
void check_config(const config::Config& config);

}  // namespace muster::fuzz
