// SPDX-License-Identifier: Apache-2.0
#include "muster/phases/item_phase.h"

namespace muster::phases {

const PhaseInfo* find_phase(const Registry& registry, const std::string& name) {
  for (const auto& phase : registry) {
    if (phase.name == name) return &phase;
  }
  return nullptr;
}

}  // namespace muster::phases
