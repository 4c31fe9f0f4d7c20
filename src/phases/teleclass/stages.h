// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "muster/phases/item_phase.h"
#include "phases/teleclass/options.h"

namespace muster::phases {

/// A part of the pipeline: a job in a folder of its own.
struct Stage {
  std::string name;   ///< and folder
  std::string until;  ///< the value of teleclass.until that includes it
  PhaseInfo phase;
  config::Config config;
  /// The part of its identity that other stages' results make, as they are now. Rank 0, when they are there.
  std::function<io::Identity()> upstream;
};

/// All stages in their order, up to teleclass.until; the last only where there are gold labels. Of all
/// files it reads the classifier's config alone.
std::vector<Stage> teleclass_stages(const config::Config& config, const TeleclassFiles& files);

/// The file of class texts, relative to the output directory.
inline constexpr const char* kClassTexts = "class_texts.tsv";

}  // namespace muster::phases
