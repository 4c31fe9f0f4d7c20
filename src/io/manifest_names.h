// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

namespace muster::io {

/// A relative path that stays below its directory: no "..", nothing absolute.
bool is_inner_name(const std::string& name);

}  // namespace muster::io
