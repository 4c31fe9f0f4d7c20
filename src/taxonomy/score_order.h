// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <limits>
#include <span>

#include "muster/taxonomy/hierarchy.h"

namespace muster::taxonomy {

/// A score in the order of all scores: what is no number comes last.
inline float comparable(float score) {
  return std::isnan(score) ? -std::numeric_limits<float>::infinity() : score;
}

/// Orders classes by falling score, equal ones by id.
struct BestFirst {
  std::span<const float> scores;
  bool operator()(ClassId a, ClassId b) const {
    const float left = comparable(scores[static_cast<std::size_t>(a)]);
    const float right = comparable(scores[static_cast<std::size_t>(b)]);
    return left != right ? left > right : a < b;
  }
};

}  // namespace muster::taxonomy
