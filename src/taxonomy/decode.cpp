// SPDX-License-Identifier: Apache-2.0
#include "muster/taxonomy/decode.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "muster/core/error.h"
#include "taxonomy/score_order.h"

namespace muster::taxonomy {
namespace {

struct Path {
  std::vector<ClassId> classes;
  double log_product = 0;
};

bool is_better(const Path& a, double score_a, const Path& b, double score_b) {
  return score_a != score_b ? score_a > score_b : a.classes < b.classes;
}

double log_of(float probability) {
  return probability > 0 ? std::log(static_cast<double>(probability))
                         : -std::numeric_limits<double>::infinity();
}

// The `width` best, best first. Of ways to the same class the better one: no continuation can turn them
// round.
void keep_best(std::vector<Path>& paths, std::size_t width) {
  std::sort(paths.begin(), paths.end(), [](const Path& a, const Path& b) {
    return a.classes.back() != b.classes.back() ? a.classes.back() < b.classes.back()
                                                : is_better(a, a.log_product, b, b.log_product);
  });
  const auto same_end = [](const Path& a, const Path& b) { return a.classes.back() == b.classes.back(); };
  paths.erase(std::unique(paths.begin(), paths.end(), same_end), paths.end());
  std::sort(paths.begin(), paths.end(),
            [](const Path& a, const Path& b) { return is_better(a, a.log_product, b, b.log_product); });
  if (paths.size() > width) paths.resize(width);
}

}  // namespace

std::vector<ClassId> top_k(std::span<const float> scores, std::size_t k) {
  std::vector<ClassId> classes(scores.size());
  std::iota(classes.begin(), classes.end(), ClassId{0});
  const auto end = classes.begin() + static_cast<std::ptrdiff_t>(std::min(k, classes.size()));
  std::partial_sort(classes.begin(), end, classes.end(), BestFirst{scores});
  classes.erase(end, classes.end());
  return classes;
}

std::vector<ClassId> above_threshold(std::span<const float> scores, float threshold) {
  std::vector<ClassId> classes;
  for (std::size_t i = 0; i < scores.size(); ++i)
    if (scores[i] >= threshold) classes.push_back(static_cast<ClassId>(i));
  if (classes.empty()) return top_k(scores, 1);
  std::sort(classes.begin(), classes.end(), BestFirst{scores});
  return classes;
}

std::vector<ClassId> best_path(std::span<const float> probabilities, const Hierarchy& hierarchy,
                               const PathSearch& search) {
  core::internal_check(probabilities.size() == hierarchy.size(), "a probability for every class");
  core::internal_check(search.width > 0 && search.shortest > 0 && search.shortest <= search.longest,
                       "a path search has room for one path");
  const auto grown = [&](const Path& path, ClassId next) {
    Path longer = path;
    longer.classes.push_back(next);
    longer.log_product += log_of(probabilities[static_cast<std::size_t>(next)]);
    return longer;
  };
  std::vector<Path> beam;
  for (const ClassId root : hierarchy.roots()) beam.push_back(grown({}, root));
  Path best;
  double best_score = 0;
  for (std::size_t length = 1; !beam.empty(); ++length) {
    keep_best(beam, search.width);
    const double weight = std::pow(static_cast<double>(length), -search.length_power);
    std::vector<Path> longer;
    for (const auto& path : beam) {
      const auto children = hierarchy.children(path.classes.back());
      const double score = path.log_product * weight;
      const bool may_end = length >= search.shortest || children.empty();
      if (may_end && (best.classes.empty() || is_better(path, score, best, best_score))) {
        best = path;
        best_score = score;
      }
      if (length == search.longest) continue;
      for (const ClassId child : children) longer.push_back(grown(path, child));
    }
    beam = std::move(longer);
  }
  return best.classes;
}

}  // namespace muster::taxonomy
