// SPDX-License-Identifier: Apache-2.0
#include "muster/taxonomy/hierarchy.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "muster/core/error.h"
#include "muster/core/philox.h"

namespace muster::taxonomy {
namespace {

using Ids = std::vector<ClassId>;

Ids ids(std::span<const ClassId> span) {
  return {span.begin(), span.end()};
}

// Edges as a file would hold them, numbered by their place.
std::vector<Edge> edges_of(std::initializer_list<std::pair<ClassId, ClassId>> pairs) {
  std::vector<Edge> edges;
  for (const auto& [parent, child] : pairs) edges.push_back({parent, child, edges.size() + 1});
  return edges;
}

std::string refusal(std::size_t classes, const std::vector<Edge>& edges) {
  try {
    const Hierarchy hierarchy(classes, edges, "h.txt");
  } catch (const core::DataError& error) {
    return error.what();
  }
  return "accepted";
}

// 0 and 1 are roots; 4 hangs under 2 and 3; 5 under 4 and directly under root 0; 6 is alone.
Hierarchy diamond() {
  return Hierarchy(7, edges_of({{0, 2}, {1, 3}, {3, 4}, {2, 4}, {4, 5}, {0, 5}, {0, 2}}), "h.txt");
}

TEST(Hierarchy, FollowsEveryParent) {
  const Hierarchy hierarchy = diamond();
  const struct {
    ClassId id;
    Ids parents, children, ancestors, descendants;
    int depth;
  } rows[] = {
      {0, {}, {2, 5}, {}, {2, 4, 5}, 0},
      {1, {}, {3}, {}, {3, 4, 5}, 0},
      {2, {0}, {4}, {0}, {4, 5}, 1},
      {3, {1}, {4}, {1}, {4, 5}, 1},
      {4, {2, 3}, {5}, {0, 1, 2, 3}, {5}, 2},
      {5, {0, 4}, {}, {0, 1, 2, 3, 4}, {}, 3},
      {6, {}, {}, {}, {}, 0},
  };
  EXPECT_EQ(ids(hierarchy.roots()), (Ids{0, 1, 6}));
  for (const auto& row : rows) {
    EXPECT_EQ(ids(hierarchy.parents(row.id)), row.parents) << row.id;
    EXPECT_EQ(ids(hierarchy.children(row.id)), row.children) << row.id;
    EXPECT_EQ(ids(hierarchy.ancestors(row.id)), row.ancestors) << row.id;
    EXPECT_EQ(ids(hierarchy.descendants(row.id)), row.descendants) << row.id;
    EXPECT_EQ(hierarchy.depth(row.id), row.depth) << row.id;
  }
}

TEST(Hierarchy, ClosesSetsUpwards) {
  const Hierarchy hierarchy = diamond();
  const struct {
    Ids classes, closure;
  } rows[] = {
      {{}, {}}, {{6}, {6}}, {{4, 4}, {0, 1, 2, 3, 4}}, {{3, 2}, {0, 1, 2, 3}}, {{6, 2}, {0, 2, 6}},
  };
  for (const auto& row : rows) EXPECT_EQ(hierarchy.closure(row.classes), row.closure);
}

TEST(Hierarchy, WithoutEdgesIsFlat) {
  const Hierarchy hierarchy(3);
  EXPECT_EQ(ids(hierarchy.roots()), (Ids{0, 1, 2}));
  EXPECT_EQ(Hierarchy().size(), 0u);
}

TEST(Hierarchy, RefusesWithEveryProblemAndItsLine) {
  const struct {
    std::vector<Edge> edges;
    std::vector<std::string> says;
  } rows[] = {
      {edges_of({{0, 1}, {1, 9}, {-2, 1}}),
       {"h.txt: line 2: there is no class 9", "line 3: there is no class -2"}},
      {edges_of({{0, 1}, {2, 2}, {7, 7}}),
       {"line 2: class 2 is its own parent", "line 3: there is no class 7"}},
      {edges_of({{0, 1}, {1, 2}, {2, 1}}), {"a cycle", "1 above 2 (line 2), 2 above 1 (line 3)"}},
      {edges_of({{3, 4}, {4, 3}, {0, 1}, {1, 2}, {2, 0}, {2, 3}}),
       {"3 above 4 (line 1), 4 above 3 (line 2)", "0 above 1 (line 3)", "1 above 2 (line 4)",
        "2 above 0 (line 5)"}},
      {edges_of({{0, 9}, {1, 2}, {2, 1}}), {"line 1: there is no class 9", "a cycle"}},
  };
  for (const auto& row : rows) {
    const auto message = refusal(5, row.edges);
    for (const auto& words : row.says) EXPECT_NE(message.find(words), std::string::npos) << message;
  }
}

// Below a cycle is not in it, and long lists of trouble end.
TEST(Hierarchy, KeepsItsMessagesShort) {
  EXPECT_EQ(refusal(5, edges_of({{0, 1}, {1, 0}, {1, 2}, {2, 3}})).find("2 above 3"), std::string::npos);
  std::vector<Edge> ring, strangers;
  for (ClassId i = 0; i < 1000; ++i) {
    ring.push_back({i, (i + 1) % 1000, static_cast<std::uint64_t>(i) + 1});
    strangers.push_back({i, 5000, static_cast<std::uint64_t>(i) + 1});
  }
  EXPECT_NE(refusal(1000, ring).find("... 980 more ..."), std::string::npos);
  EXPECT_LT(refusal(1000, ring).size(), 2000u);
  EXPECT_NE(refusal(1000, strangers).find("and 980 more"), std::string::npos);
}

TEST(Hierarchy, HoldsAHundredThousandClasses) {
  constexpr ClassId kClasses = 100'000;
  std::vector<Edge> edges;
  for (ClassId child = 1; child < kClasses; ++child) {
    core::Philox random(7, static_cast<std::uint64_t>(child));
    for (int parent = 0; parent < 2; ++parent)
      edges.push_back(
          {static_cast<ClassId>(random.next_below(static_cast<std::uint64_t>(child) / 8 + 1)), child});
  }
  const Hierarchy hierarchy(kClasses, edges, "h.txt");
  EXPECT_EQ(ids(hierarchy.roots()), (Ids{0}));
  EXPECT_EQ(hierarchy.descendants(0).size(), static_cast<std::size_t>(kClasses) - 1);
  for (ClassId id = 0; id < kClasses; id += 9'999)
    for (const ClassId above : hierarchy.ancestors(id)) {
      const auto below = hierarchy.descendants(above);
      EXPECT_TRUE(std::binary_search(below.begin(), below.end(), id));
    }
}

// A chain of all classes has no recursion to exhaust, and no room for all its pairs.
TEST(Hierarchy, RefusesAHundredThousandLevels) {
  std::vector<Edge> chain;
  for (ClassId i = 0; i + 1 < 100'000; ++i) chain.push_back({i, i + 1, 0});
  EXPECT_NE(refusal(100'000, chain).find("levels deep"), std::string::npos);
  chain.push_back({99'999, 0, 0});
  EXPECT_NE(refusal(100'000, chain).find("a cycle"), std::string::npos);
}

}  // namespace
}  // namespace muster::taxonomy
