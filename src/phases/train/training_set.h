// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "muster/comm/communicator.h"
#include "muster/formats/item_source.h"
#include "muster/taxonomy/pseudo_labels.h"
#include "phases/runner/survey.h"

namespace muster::phases {

/// What a document teaches, and how much it counts.
struct LabelledTargets {
  taxonomy::Targets targets;
  float weight = 1;
};

/// All documents of a training job as token ids with their labels, the same on every rank: any rank may need
/// any document in any step.
class TrainingSet {
 public:
  std::uint32_t size() const { return static_cast<std::uint32_t>(lengths_.size()); }
  std::span<const std::uint32_t> ids(std::uint32_t document) const {
    return std::span(ids_).subspan(begins_[document], lengths_[document]);
  }
  std::span<const std::uint32_t> lengths() const { return lengths_; }
  std::uint64_t row(std::uint32_t document) const { return rows_[document]; }  ///< in the input
  const LabelledTargets& labels(std::uint32_t document) const { return labels_[document]; }
  std::uint64_t truncated() const { return truncated_; }
  std::uint64_t tokens() const { return ids_.size(); }
  double bytes() const;

 private:
  friend class TrainingSetLoader;
  std::vector<std::uint32_t> ids_, lengths_;
  std::vector<std::uint64_t> begins_, rows_;
  std::vector<LabelledTargets> labels_;
  std::uint64_t truncated_ = 0;
};

struct LoadTrainingSet {
  formats::InputConfig input;
  const Survey& survey;
  int threads = 1;  ///< that tokenize, on each rank
  /// Rank 0: the targets of a document; false when it has none and is left out.
  std::function<bool(const std::string& id, LabelledTargets& out)> targets;
  /// Safe from several threads: token ids; true when the document was cut.
  std::function<bool(const std::string& text, std::vector<std::uint32_t>& ids)> tokenize;
  std::function<void(const std::string&)> begins;  ///< for the watchdog
};

/// Collective: rank 0 reads, all ranks tokenize their share of each window, everybody gets everything.
TrainingSet load_training_set(comm::Communicator& world, const LoadTrainingSet& how);

}  // namespace muster::phases
