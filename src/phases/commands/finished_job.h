// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>

#include "muster/phases/item_phase.h"

namespace muster::phases {

/// A finished output directory, opened again: its manifest, its resolved config, and the phase that made it.
class FinishedJob {
 public:
  /// DataError when the directory has no manifest (then it says how to finish the job) or was made by an
  /// unknown phase.
  FinishedJob(const Registry& registry, const std::string& directory);
  const std::string& directory() const { return directory_; }
  const io::Manifest& manifest() const { return manifest_; }
  const PhaseInfo& info() const { return *info_; }
  const config::Config& config() const { return config_; }
  /// Made on first use, on the CPU or GPU that the job used; the model is loaded.
  ItemPhase& phase();
  /// The one record of a text, as a worker makes it.
  formats::Record run(std::string_view text);

 private:
  std::string directory_;
  io::Manifest manifest_;
  const PhaseInfo* info_ = nullptr;
  config::Config config_;
  std::unique_ptr<ItemPhase> phase_;
  std::unique_ptr<ItemWorker> worker_;
};

}  // namespace muster::phases
