// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

namespace muster::io {

/// Ends a JSON object with a checksum of everything before it: `open_object` is the object without its
/// closing brace, ending with a comma. The result is still plain JSON, and a flipped bit anywhere in it is
/// noticed.
std::string seal(std::string open_object);
/// True when `text` (a final newline does not count) ends with the checksum of what comes before it.
bool seal_holds(std::string_view text);

}  // namespace muster::io
