// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <fmt/format.h>

#include <string>
#include <string_view>

#include "muster/core/strings.h"
#include "muster/formats/json.h"

namespace muster::text {

/// The "type" that names a part of a tokenizer.json.
inline std::string component_type(const formats::JsonValue& section) {
  return section.get<std::string>("type");
}

[[noreturn]] inline void fail_unsupported(const formats::JsonValue& section, std::string_view type,
                                          std::string_view supported) {
  section.fail(fmt::format("is of type '{}', which is not supported; supported: {}", core::printable(type),
                           supported));
}

}  // namespace muster::text
