// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>

namespace muster::phases {

/// How far a training job is, beside weights and optimizer.
struct TrainState {
  std::uint64_t epoch = 0;      ///< the one that is trained on, from 0
  std::uint64_t batch = 0;      ///< the next one of it
  std::uint64_t batches = 0;    ///< taken in all
  std::uint64_t documents = 0;  ///< in them
  std::uint64_t skipped = 0;    ///< batches without an update
  std::uint64_t bad_in_a_row = 0;
  bool has_best = false;
  double best = 0;  ///< of the rule, the smaller the better
  std::uint64_t best_epoch = 0;
  std::uint64_t epochs_without_better = 0;
  bool stopped_early = false;

  std::string to_json() const;
  static TrainState from_json(const std::string& text, const std::string& file);
};

}  // namespace muster::phases
