// SPDX-License-Identifier: Apache-2.0
#include "muster/taxonomy/decode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "muster/core/philox.h"

namespace muster::taxonomy {
namespace {

using Ids = std::vector<ClassId>;
using Scores = std::vector<float>;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(Decode, TopK) {
  const struct {
    Scores scores;
    std::size_t k;
    Ids classes;
  } rows[] = {
      {{0.1f, 0.9f, 0.5f}, 2, {1, 2}},
      {{0.5f, 0.9f, 0.5f, 0.5f}, 3, {1, 0, 2}},
      {{0.1f, 0.2f}, 5, {1, 0}},
      {{kNan, -3.0f, kNan}, 2, {1, 0}},
      {{}, 3, {}},
      {{1.0f}, 0, {}},
  };
  for (const auto& row : rows) EXPECT_EQ(top_k(row.scores, row.k), row.classes);
}

TEST(Decode, AboveThreshold) {
  const struct {
    Scores scores;
    float threshold;
    Ids classes;
  } rows[] = {
      {{0.6f, 0.5f, 0.9f, 0.4f}, 0.5f, {2, 0, 1}},
      {{0.1f, 0.4f, 0.4f}, 0.5f, {1}},
      {{0.7f, kNan, 0.7f}, 0.5f, {0, 2}},
      {{kNan, 0.0f}, 0.5f, {1}},
      {{}, 0.5f, {}},
  };
  for (const auto& row : rows) EXPECT_EQ(above_threshold(row.scores, row.threshold), row.classes);
}

// Roots 0 and 1; 0 -> 2, 3; 1 -> 3, 4; 3 -> 5; 6 is a root and a leaf.
Hierarchy graph() {
  const std::vector<Edge> edges{{0, 2}, {0, 3}, {1, 3}, {1, 4}, {3, 5}};
  return Hierarchy(7, edges, "h.txt");
}

TEST(Decode, BestPath) {
  const struct {
    const char* what;
    Scores probabilities;
    PathSearch search;
    Ids path;
  } rows[] = {
      {"the longer path, whose exponent is smaller", {0.9f, 0.1f, 0.8f, 0.7f, 0, 0.6f, 0}, {}, {0, 3, 5}},
      {"unless it is too unlikely", {0.9f, 0.1f, 0.9f, 0.7f, 0, 0.001f, 0}, {.length_power = 1}, {0, 2}},
      {"at most `longest`", {0.9f, 0.1f, 0.2f, 0.7f, 0, 0.9f, 0}, {.longest = 2}, {0, 3}},
      {"through the better parent", {0.3f, 0.9f, 0, 0.8f, 0, 0.9f, 0}, {}, {1, 3, 5}},
      {"a leaf ends a path before `shortest`", {0.01f, 0.01f, 0.01f, 0.01f, 0.01f, 0.01f, 0.99f}, {}, {6}},
      {"a narrow beam follows the better start",
       {0.9f, 0.8f, 0.1f, 0.1f, 0.9f, 0.1f, 0},
       {.width = 1, .longest = 2},
       {0, 2}},
      {"a wide one finds the better end", {0.9f, 0.8f, 0.1f, 0.1f, 0.9f, 0.1f, 0}, {.longest = 2}, {1, 4}},
      {"equal paths: smaller ids", {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0, 0}, {.longest = 2}, {0, 2}},
      {"nothing is likely", {0, 0, 0, 0, 0, 0, 0}, {.longest = 2}, {0, 2}},
      {"no numbers", {kNan, kNan, kNan, kNan, kNan, kNan, 0.1f}, {}, {6}},
  };
  for (const auto& row : rows)
    EXPECT_EQ(best_path(row.probabilities, graph(), row.search), row.path) << row.what;
  EXPECT_EQ(best_path(Scores{}, Hierarchy(), {}), Ids{});
  EXPECT_EQ(best_path(Scores{0.2f, 0.3f}, Hierarchy(2), {}), Ids{1});
}

// Every path of a small random graph, one by one, against the search with a beam that cuts nothing.
TEST(Decode, AWideBeamMissesNoPath) {
  constexpr ClassId kClasses = 24;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    core::Philox random(seed, 0);
    std::vector<Edge> edges;
    for (ClassId child = 3; child < kClasses; ++child)
      for (int i = 0; i < 2; ++i)
        edges.push_back({static_cast<ClassId>(random.next_below(static_cast<std::uint64_t>(child))), child});
    const Hierarchy hierarchy(kClasses, edges, "h.txt");
    Scores probabilities(kClasses);
    for (auto& p : probabilities) p = random.next_uniform();

    const PathSearch search{.width = 1000, .shortest = 2, .longest = 4, .length_power = 2};
    double best = -1;
    std::vector<Ids> open;
    for (const ClassId root : hierarchy.roots()) open.push_back({root});
    while (!open.empty()) {
      const Ids path = open.back();
      open.pop_back();
      const auto children = hierarchy.children(path.back());
      double product = 1;
      for (const ClassId id : path) product *= probabilities[static_cast<std::size_t>(id)];
      const auto length = static_cast<double>(path.size());
      if (path.size() >= search.shortest || children.empty())
        best = std::max(best, std::pow(product, 1 / (length * length)));
      if (path.size() == search.longest) continue;
      for (const ClassId child : children) {
        open.push_back(path);
        open.back().push_back(child);
      }
    }
    double product = 1;
    const auto found = best_path(probabilities, hierarchy, search);
    for (const ClassId id : found) product *= probabilities[static_cast<std::size_t>(id)];
    const auto length = static_cast<double>(found.size());
    EXPECT_NEAR(std::pow(product, 1 / (length * length)), best, 1e-9) << "seed " << seed;
  }
}

}  // namespace
}  // namespace muster::taxonomy
