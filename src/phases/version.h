// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace muster::phases {

extern const char* const kVersion;  ///< "0.1.0"
extern const char* const kCommit;   ///< git commit of the build, "unknown" outside a checkout

}  // namespace muster::phases
