// SPDX-License-Identifier: Apache-2.0
#include "muster/taxonomy/pseudo_labels.h"

#include <gtest/gtest.h>

#include <numeric>

namespace muster::taxonomy {
namespace {

using Ids = std::vector<ClassId>;
using Scores = std::vector<float>;

TEST(PseudoLabels, GapRule) {
  const GapRule course{}, code{.search = 3, .at_least = 1}, paper{.search = 0, .at_least = 1};
  const struct {
    const char* what;
    Scores scores;
    GapRule rule;
    std::size_t count;
    float gap;
  } rows[] = {
      {"after the first", {8, 4, 3, 2, 1, 0}, code, 1, 4},
      {"at least two, and the gap stays what was found", {8, 4, 3, 2, 1, 0}, course, 2, 4},
      {"after the third", {8, 7, 6, 2, 1, 0}, code, 3, 4},
      {"the fourth gap is larger but not searched", {8, 6, 5, 4, 0}, code, 1, 2},
      {"it is by the paper", {8, 6, 5, 4, 0}, paper, 4, 4},
      {"and by the course, up to the fifth", {9, 8, 7, 6, 5, 0, -50}, course, 5, 5},
      {"equal gaps: the first", {6, 4, 2, 0}, code, 1, 2},
      {"equal scores", {1, 1, 1, 1}, code, 1, 0},
      {"at most", {9, 8, 7, 6, 0}, {.search = 0, .at_least = 1, .at_most = 2}, 2, 6},
      {"fewer classes than asked for", {3}, course, 1, 0},
      {"none", {}, course, 0, 0},
  };
  for (const auto& row : rows) {
    const auto choice = choose_by_gap(row.scores, row.rule);
    EXPECT_EQ(choice.count, row.count) << row.what;
    EXPECT_FLOAT_EQ(choice.gap, row.gap) << row.what;
  }
}

// Values as numpy.percentile gives them.
TEST(PseudoLabels, PercentileInterpolates) {
  const struct {
    Scores values;
    double percent, expected;
  } rows[] = {
      {{5}, 25, 5},           {{1, 2}, 25, 1.25},     {{4, 1, 3, 2}, 25, 1.75}, {{4, 1, 3, 2}, 0, 1},
      {{4, 1, 3, 2}, 100, 4}, {{10, 20, 30}, 50, 20}, {{1, 1, 1, 9}, 50, 1},    {{3, 1, 2, 5, 4}, 90, 4.6},
  };
  for (const auto& row : rows) EXPECT_NEAR(percentile(row.values, row.percent), row.expected, 1e-12);
}

// Keeping what lies at or above the 25th percentile keeps 22,115 of 29,487 documents (TELEClass's figure).
TEST(PseudoLabels, ThreeQuartersAreKept) {
  Scores confidences(29'487);
  std::iota(confidences.begin(), confidences.end(), 0.0f);
  const double least = percentile(confidences, 25);
  EXPECT_EQ(std::count_if(confidences.begin(), confidences.end(), [least](float c) { return c >= least; }),
            22'115);
}

TEST(PseudoLabels, StarvedClasses) {
  const std::vector<Ids> labels{{0, 2}, {2}, {}, {2, 0}, {1}};
  const auto documents = documents_per_class(labels, 4);
  EXPECT_EQ(documents, (std::vector<std::uint64_t>{2, 1, 3, 0}));
  EXPECT_EQ(starved_classes(documents, 2), (Ids{1, 3}));
  EXPECT_EQ(starved_classes(documents, 0), Ids{});
}

// 0 -> 1 -> 2 -> 3, 0 -> 4, and 5 -> 2 from another root.
Hierarchy graph() {
  const std::vector<Edge> edges{{0, 1}, {1, 2}, {2, 3}, {0, 4}, {5, 2}};
  return Hierarchy(6, edges, "h.txt");
}

TEST(PseudoLabels, TargetsOfCoreClasses) {
  const struct {
    const char* what;
    Ids core;
    DescendantMask mask;
    Ids positives, ignored;
  } rows[] = {
      {"all ancestors, and descendants ignored", {1}, DescendantMask::kAsPublished, {0, 1}, {2, 3}},
      {"every parent's ancestors", {2}, DescendantMask::kAsPublished, {0, 1, 2, 5}, {3}},
      {"a core class below another stays", {0, 3}, DescendantMask::kAsPublished, {0, 1, 2, 3, 5}, {1, 2, 4}},
      {"with what is between them, where protected",
       {0, 3},
       DescendantMask::kPositivesProtected,
       {0, 1, 2, 3, 5},
       {4}},
      {"order and doubles do not matter",
       {3, 0, 3},
       DescendantMask::kAsPublished,
       {0, 1, 2, 3, 5},
       {1, 2, 4}},
      {"no mask", {0, 3}, DescendantMask::kOff, {0, 1, 2, 3, 5}, {}},
      {"nothing", {}, DescendantMask::kAsPublished, {}, {}},
  };
  for (const auto& row : rows) {
    const auto targets = make_targets(row.core, graph(), row.mask);
    EXPECT_EQ(targets.positives, row.positives) << row.what;
    EXPECT_EQ(targets.ignored, row.ignored) << row.what;
  }
}

TEST(PseudoLabels, Rows) {
  const struct {
    TargetValues values;
    Scores targets, weights;
  } rows[] = {
      {{}, {1, 1, 1, 1, 0, 1}, {1, 0, 0, 1, 0, 1}},
      {{.positive = 0.9f, .positive_weight = 2}, {0.9f, 0.9f, 0.9f, 0.9f, 0, 0.9f}, {2, 0, 0, 2, 0, 2}},
      {{.positive_weight = 8, .negative_weight = 8}, {1, 1, 1, 1, 0, 1}, {8, 0, 0, 8, 0, 8}},
  };
  const auto targets = make_targets(Ids{0, 3}, graph(), DescendantMask::kAsPublished);
  for (const auto& row : rows) {
    Scores target_row(6, 7.0f), weight_row(6, 7.0f);
    write_row(targets, row.values, target_row, weight_row);
    EXPECT_EQ(target_row, row.targets);
    EXPECT_EQ(weight_row, row.weights);
  }
  Scores target_row(6), weight_row(6);
  write_row(make_targets(Ids{1}, graph(), DescendantMask::kAsPublished), {.negative_weight = 3}, target_row,
            weight_row);
  EXPECT_EQ(weight_row, (Scores{1, 1, 0, 0, 3, 3}));
}

}  // namespace
}  // namespace muster::taxonomy
