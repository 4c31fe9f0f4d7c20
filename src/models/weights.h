// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "muster/formats/safetensors.h"
#include "muster/nn/module.h"

namespace muster::models {

/// How a checkpoint relates to a module's own names.
struct WeightRules {
  /// Before every name in checkpoints that were saved with a head: "bert.". Absent in the others.
  std::string prefix;
  /// Names a checkpoint may hold beyond the module's: exact, or everything below when it ends with a dot
  /// ("pooler.").
  std::vector<std::string> unused;
};

/// Points every parameter at its tensor in the mapped checkpoint, which must outlive prepare(). One DataError
/// lists every missing, mis-shaped and unused tensor; `config_path` is the file that decides the shapes.
void load_weights(nn::Module& module, const formats::Safetensors& checkpoint, const WeightRules& rules,
                  const std::string& config_path);

/// The checkpoint of a folder; says what to do when there are only weights in another format.
formats::Safetensors open_checkpoint(const std::string& folder);

}  // namespace muster::models
