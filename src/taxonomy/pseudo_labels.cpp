// SPDX-License-Identifier: Apache-2.0
#include "muster/taxonomy/pseudo_labels.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "muster/core/error.h"

namespace muster::taxonomy {
namespace {

void subtract(std::vector<ClassId>& sorted, std::span<const ClassId> sorted_others) {
  std::vector<ClassId> rest;
  std::set_difference(sorted.begin(), sorted.end(), sorted_others.begin(), sorted_others.end(),
                      std::back_inserter(rest));
  sorted = std::move(rest);
}

}  // namespace

GapChoice choose_by_gap(std::span<const float> scores, const GapRule& rule) {
  core::internal_check(rule.at_least > 0 && rule.at_least <= rule.at_most, "a gap rule that can be met");
  if (scores.empty()) return {};
  GapChoice choice{.count = 1, .gap = 0};
  const std::size_t gaps = scores.size() - 1;
  const std::size_t searched = rule.search == 0 ? gaps : std::min(rule.search, gaps);
  for (std::size_t i = 0; i < searched; ++i) {
    const float gap = scores[i] - scores[i + 1];
    if (gap > choice.gap) choice = {.count = i + 1, .gap = gap};
  }
  choice.count = std::min(std::clamp(choice.count, rule.at_least, rule.at_most), scores.size());
  return choice;
}

double percentile(std::span<const float> values, double percent) {
  core::internal_check(!values.empty() && percent >= 0 && percent <= 100, "a percentile of some values");
  std::vector<float> sorted(values.begin(), values.end());
  const double place = percent / 100 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const auto lower = sorted.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(sorted.begin(), lower, sorted.end());
  if (below + 1 == sorted.size()) return *lower;
  const double upper = *std::min_element(lower + 1, sorted.end());
  return *lower + (place - static_cast<double>(below)) * (upper - *lower);
}

std::vector<std::uint64_t> documents_per_class(std::span<const std::vector<ClassId>> labels,
                                               std::size_t classes) {
  std::vector<std::uint64_t> documents(classes);
  for (const auto& of_document : labels)
    for (const ClassId id : of_document) ++documents.at(static_cast<std::size_t>(id));
  return documents;
}

std::vector<ClassId> starved_classes(std::span<const std::uint64_t> documents, std::uint64_t fewest) {
  std::vector<ClassId> starved;
  for (std::size_t i = 0; i < documents.size(); ++i)
    if (documents[i] < fewest) starved.push_back(static_cast<ClassId>(i));
  return starved;
}

Targets make_targets(std::span<const ClassId> core_classes, const Hierarchy& hierarchy, DescendantMask mask) {
  Targets targets{.positives = hierarchy.closure(core_classes), .ignored = {}};
  if (mask == DescendantMask::kOff) return targets;
  std::vector<ClassId> core(core_classes.begin(), core_classes.end());
  std::sort(core.begin(), core.end());
  for (const ClassId id : core) {
    const auto below = hierarchy.descendants(id);
    targets.ignored.insert(targets.ignored.end(), below.begin(), below.end());
  }
  std::sort(targets.ignored.begin(), targets.ignored.end());
  targets.ignored.erase(std::unique(targets.ignored.begin(), targets.ignored.end()), targets.ignored.end());
  subtract(targets.ignored, mask == DescendantMask::kAsPublished ? core : targets.positives);
  return targets;
}

void write_row(const Targets& targets, const TargetValues& values, std::span<float> target_row,
               std::span<float> weight_row) {
  core::internal_check(target_row.size() == weight_row.size(), "a target and a weight for every class");
  std::fill(target_row.begin(), target_row.end(), 0.0f);
  std::fill(weight_row.begin(), weight_row.end(), values.negative_weight);
  for (const ClassId id : targets.positives) {
    target_row[static_cast<std::size_t>(id)] = values.positive;
    weight_row[static_cast<std::size_t>(id)] = values.positive_weight;
  }
  for (const ClassId id : targets.ignored) weight_row[static_cast<std::size_t>(id)] = 0;
}

}  // namespace muster::taxonomy
