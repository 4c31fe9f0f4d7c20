// SPDX-License-Identifier: Apache-2.0
#include "muster/phases/item_phase.h"
#include "phases/encode/encode.h"

namespace muster::phases {

Registry all_phases() {
  return {encode_phase()};
}

const PhaseInfo* find_phase(const Registry& registry, const std::string& name) {
  for (const auto& phase : registry) {
    if (phase.name == name) return &phase;
  }
  return nullptr;
}

}  // namespace muster::phases
