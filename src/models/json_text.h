// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <string>

#include "muster/formats/json.h"

namespace muster::models {

/// A value as JSON text that parses to the same, indented by two blanks a level; `level` is its own.
std::string json_text(const formats::JsonValue& value, int level = 0);
/// The object's members in their order, those in `changes` (JSON text by key) replaced, new ones behind.
std::string json_text_with(const formats::JsonValue& object, std::map<std::string, std::string> changes);

}  // namespace muster::models
