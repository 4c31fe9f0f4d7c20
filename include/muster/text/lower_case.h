// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

namespace muster::text {

/// The text in lower case by the full Unicode mappings, a final sigma included, as str.lower() of Python does.
std::string lower_case(std::string_view text);

}  // namespace muster::text
