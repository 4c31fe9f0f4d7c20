// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "muster/taxonomy/hierarchy.h"

namespace muster::taxonomy {

/// From the probabilities (or logits) of all classes to the classes of a document. Ties go to the smaller id,
/// and what is not a number comes last.

/// The k best, best first; fewer only when there are fewer classes.
std::vector<ClassId> top_k(std::span<const float> scores, std::size_t k);
/// All at or above `threshold`, best first; the single best one when none is.
std::vector<ClassId> above_threshold(std::span<const float> scores, float threshold);
/// The best way down from a root, of `shortest` to `longest` classes, or less where it ends at a leaf: paths
/// grow by a beam of `width`, a path's score is the product of its probabilities to the power
/// 1 / length^length_power (3 in the course's winning submission). Top-down.
struct PathSearch {
  std::size_t width = 10;
  std::size_t shortest = 2;
  std::size_t longest = 3;
  double length_power = 3;
};
std::vector<ClassId> best_path(std::span<const float> probabilities, const Hierarchy& hierarchy,
                               const PathSearch& search);

}  // namespace muster::taxonomy
