// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "muster/config/schema.h"
#include "muster/formats/item_source.h"

namespace muster::phases {

/// A phase with this key has prompts as items; `input.path` stands beside it for files alone.
inline constexpr const char* kPromptsKey = "input.prompts";
/// Pictures of a prompt whose row does not say how many.
inline constexpr const char* kCountKey = "sample.count";

/// What `--prompts` was given: files (or globs), when each of its words is one; else the prompts themselves.
/// DataError for a word that is named like an input file but does not exist, ConfigError for a mixture.
enum class PromptWords { kFiles, kTexts };
PromptWords kind_of_prompts(const std::vector<std::string>& words);

/// ConfigError unless exactly one of input.path and input.prompts is given.
void add_prompts(const config::Config& config, formats::InputConfig& input);

}  // namespace muster::phases
