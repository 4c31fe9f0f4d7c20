// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "muster/taxonomy/hierarchy.h"
#include "phases/infer/infer_options.h"

namespace muster::phases {

/// A document's labels with their scores, and the best classes beside them when they are asked for.
struct Prediction {
  std::vector<taxonomy::ClassId> labels;  ///< best first (a path: top-down), ancestors behind
  std::vector<float> scores;
  std::vector<taxonomy::ClassId> top;
  std::vector<float> top_scores;
};

/// From the logits of all classes to a document's labels. Classes are ranked by their logits, which still
/// differ where scores round to 1; ties go to the smaller id.
class LabelDecoder {
 public:
  LabelDecoder(const DecodeOptions& options, taxonomy::Hierarchy hierarchy);

  std::size_t classes() const { return hierarchy_.size(); }
  Prediction decode(std::span<const float> logits) const;
  /// Of all classes.
  void scores(std::span<const float> logits, std::span<float> out) const;

 private:
  using Labels = std::vector<taxonomy::ClassId>;

  double log_sum(std::span<const float> logits) const;
  float score(float logit, double log_sum) const;
  float cut(double log_sum) const;
  Labels choose(std::span<const float> logits, double log_sum) const;
  void close(Labels& labels) const;
  void fill(Labels& labels, std::span<const float> logits) const;
  void drop(Labels& labels, std::span<const float> logits) const;

  DecodeOptions options_;
  taxonomy::Hierarchy hierarchy_;
};

}  // namespace muster::phases
