// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

namespace muster::io {

/// A JSON string literal of any bytes: what is not valid UTF-8 (a command line or path may hold it) becomes
/// U+FFFD, so that what we write can be read back.
std::string json_text(std::string_view text);

}  // namespace muster::io
