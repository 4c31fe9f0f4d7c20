// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "muster/taxonomy/hierarchy.h"

namespace muster::taxonomy {

/// How many of a document's best classes are its own: the scores fall most after the last of them. Beside the
/// defaults (the course's multi-GPU variant), {.search = 3, .at_least = 1} is TELEClass's code (Zhang et al.,
/// 2025, section 3.3) and {.search = 0, .at_least = 1} its Eq. 5.
struct GapRule {
  std::size_t search = 5;          ///< only so many first gaps; 0: all
  std::size_t at_least = 2;        ///< classes, whatever the gaps say
  std::size_t at_most = SIZE_MAX;  ///< classes, at least `at_least`
};

struct GapChoice {
  std::size_t count = 0;  ///< of classes
  float gap = 0;          ///< the largest one found: the confidence in the choice
};

/// `scores` fall; the first search + 1 of them are enough. Of equal gaps the first counts. A single score has
/// no gap and is chosen.
GapChoice choose_by_gap(std::span<const float> scores, const GapRule& rule);

/// The value below which `percent` of `values` lie, with linear interpolation between neighbours
/// (numpy.percentile's default). `values` is not empty and holds numbers.
double percentile(std::span<const float> values, double percent);

/// Documents of every class among `labels`, one list a document.
std::vector<std::uint64_t> documents_per_class(std::span<const std::vector<ClassId>> labels,
                                               std::size_t classes);
/// Classes of fewer than `fewest` documents.
std::vector<ClassId> starved_classes(std::span<const std::uint64_t> documents, std::uint64_t fewest);

/// Classes below a core class may or may not be true of the document: they are no negatives (TELEClass,
/// section 3.4).
enum class DescendantMask {
  kOff,                 ///< all of them are negatives
  kAsPublished,         ///< all but core classes are ignored, even one that is above another core class
  kPositivesProtected,  ///< the same, but a positive class stays positive
};

/// What a document teaches. Where both name a class, it is ignored.
struct Targets {
  std::vector<ClassId> positives;  ///< core classes and all their ancestors, sorted
  std::vector<ClassId> ignored;    ///< weight 0, sorted
};
Targets make_targets(std::span<const ClassId> core_classes, const Hierarchy& hierarchy, DescendantMask mask);

/// Numbers for a loss: soft targets and weights by sign.
struct TargetValues {
  float positive = 1;
  float positive_weight = 1;
  float negative_weight = 1;
};
/// A row of the loss's target and weight matrices, each as long as there are classes.
void write_row(const Targets& targets, const TargetValues& values, std::span<float> target_row,
               std::span<float> weight_row);

}  // namespace muster::taxonomy
