// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <span>
#include <string>

#include "muster/phases/item_phase.h"
#include "muster/taxonomy/pseudo_labels.h"
#include "phases/teleclass/class_rounds.h"

namespace muster::phases {

/// Embeddings of documents and of class texts -> pseudo_labels.tsv (teleclass, stage labels).
PhaseInfo similarity_phase();
/// The keys of its rule: teleclass.rounds, .top_documents, .gap_search, .min_labels, .max_labels, .starved,
/// .confidence_percentile, .train_on.
config::Schema similarity_rule_schema();

taxonomy::GapRule gap_rule_of(const config::Config& config);
/// A document's best classes, best first, by the gap rule.
struct GapLabels {
  std::vector<taxonomy::ClassId> labels;
  float gap = 0;
};
GapLabels labels_by_gap(std::span<const float> scores, const taxonomy::GapRule& rule);

/// The class vectors of a finished stage: those of the class texts, and those of the last round.
struct SavedVectors {
  ClassVectors initial, last;
};
inline constexpr const char* kVectorsFile = "class_vectors.safetensors";
SavedVectors read_class_vectors(const std::string& path);

}  // namespace muster::phases
