// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>

#include "phases/train/slot_engine.h"

namespace muster::phases {

/// losses.csv: a line a step, unrounded. Grows in .run/ and can be cut back to a checkpoint.
class LossLog {
 public:
  static constexpr const char* kHeader =
      "step,epoch,documents,loss,learning_rate,gradient_norm,loss_scale,skipped\n";

  explicit LossLog(std::string path) : path_(std::move(path)) {}
  /// Keeps the lines of the first `steps` steps; DataError when they are not all there.
  void cut_back(std::uint64_t steps);
  void add(std::uint64_t step, std::uint64_t epoch, std::size_t documents, const StepOutcome& outcome);
  /// Writes what was added and syncs it.
  void flush();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::string pending_;
};

}  // namespace muster::phases
