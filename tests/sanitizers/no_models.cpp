// SPDX-License-Identifier: Apache-2.0
// The toy program of the sanitizers is made without LibTorch, which these two name.
#include "muster/core/error.h"
#include "muster/phases/commands.h"

namespace muster::phases {

std::string versions_text() {
  return "muster without models\n";
}

core::ExitCode info_command(const std::vector<std::string>&, Doctor) {
  throw core::ConfigError("this program was made without models; use muster");
}

}  // namespace muster::phases
