// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include "muster/phases/item_phase.h"

namespace muster::phases {

const PhaseInfo* find_phase(const Registry& registry, const std::string& name, const std::string& variant) {
  const PhaseInfo* first = nullptr;
  for (const auto& phase : registry) {
    if (phase.name != name) continue;
    if (phase.variant == variant) return &phase;
    if (first == nullptr) first = &phase;
  }
  return first;
}

const PhaseInfo* find_phase_of(const Registry& registry, const std::string& name,
                               const std::string& directory) {
  const auto* first = find_phase(registry, name);
  const auto* chooser = first == nullptr ? nullptr : first->schema.chooser();
  const auto settings = (std::filesystem::path(directory) / "resolved.yaml").string();
  if (chooser == nullptr || !std::filesystem::exists(settings)) return first;
  return find_phase(registry, name, config::read_scalar(settings, chooser->name));
}

}  // namespace muster::phases
