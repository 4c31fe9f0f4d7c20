// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "muster/comm/parallel_layout.h"
#include "muster/comm/session.h"
#include "muster/core/error.h"

namespace muster::comm {
namespace {

using Axis = ParallelLayout::Axis;

struct GroupCase {
  ParallelLayout layout;
  int rank;
  Axis axis;
  std::vector<int> members;
};

TEST(Layout, Groups) {
  const GroupCase cases[] = {
      {{1, 1, 1, 1}, 0, Axis::kTensor, {0}},
      {{1, 1, 1, 4}, 2, Axis::kTensor, {0, 1, 2, 3}},
      {{4, 1, 1, 1}, 2, Axis::kData, {0, 1, 2, 3}},
      {{2, 1, 1, 2}, 3, Axis::kTensor, {2, 3}},  // tensor groups on neighbouring ranks
      {{2, 1, 1, 2}, 3, Axis::kData, {1, 3}},
      {{2, 2, 1, 2}, 5, Axis::kPipeline, {5, 7}},
      {{2, 2, 1, 2}, 5, Axis::kData, {1, 5}},
      {{2, 3, 2, 2}, 13, Axis::kExpert, {13, 15}},
      {{2, 3, 2, 2}, 13, Axis::kPipeline, {13, 17, 21}},
  };
  for (const auto& c : cases) EXPECT_EQ(c.layout.group(c.rank, c.axis), c.members) << "rank " << c.rank;
}

TEST(Layout, GroupsAndColorsPartitionTheRanks) {
  const ParallelLayout layout{2, 3, 2, 4};
  for (const Axis axis : {Axis::kData, Axis::kPipeline, Axis::kExpert, Axis::kTensor}) {
    std::map<int, std::vector<int>> by_color;
    for (int rank = 0; rank < layout.size(); ++rank) {
      EXPECT_EQ(layout.rank(layout.coordinates(rank)), rank);
      by_color[layout.color(rank, axis)].push_back(rank);
    }
    for (const auto& [color, ranks] : by_color) {
      EXPECT_GE(color, 0);
      for (const int rank : ranks) EXPECT_EQ(layout.group(rank, axis), ranks);
    }
  }
}

struct InvalidCase {
  ParallelLayout layout;
  int world;
  const char* text;
};

TEST(Layout, MustMakeTheWorld) {
  ParallelLayout{2, 2, 1, 2}.validate(8);
  const InvalidCase cases[] = {
      {{2, 1, 1, 2}, 8, "does not make 8 ranks"},
      {{0, 1, 1, 8}, 8, "at least 1"},
      {{-2, 1, 1, -4}, 8, "at least 1"},
      {{1 << 16, 1 << 16, 1, 1}, 0, "does not make"},
      {{1 << 16, 1 << 16, 1 << 16, 1 << 16}, 1 << 16, "does not make"},
  };
  for (const auto& c : cases) {
    try {
      c.layout.validate(c.world);
      ADD_FAILURE() << c.text;
    } catch (const core::ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(c.text), std::string::npos) << error.what();
    }
  }
}

struct ShareCase {
  const char* name;
  std::vector<std::vector<int>> masks, shares;
};

TEST(CoreShares, Table) {
  const ShareCase cases[] = {
      {"alone", {{0, 1, 2, 3}}, {{0, 1, 2, 3}}},
      {"even", {{0, 1, 2, 3}, {0, 1, 2, 3}}, {{0, 1}, {2, 3}}},
      {"uneven", {{0, 1, 2}, {0, 1, 2}}, {{0}, {1, 2}}},
      {"more ranks than cores", {{4, 5}, {4, 5}, {4, 5}}, {{4}, {4}, {5}}},
      {"each its own", {{0, 1}, {2, 3}}, {{0, 1}, {2, 3}}},
      {"two pairs", {{0, 1}, {0, 1}, {6, 9}, {6, 9}}, {{0}, {1}, {6}, {9}}},
      {"one apart", {{0, 1}, {7}, {0, 1}}, {{0}, {7}, {1}}},
  };
  for (const auto& c : cases) {
    for (std::size_t r = 0; r < c.masks.size(); ++r) {
      EXPECT_EQ(core_share(c.masks, static_cast<int>(r)), c.shares[r]) << c.name << ", rank " << r;
    }
  }
}

}  // namespace
}  // namespace muster::comm
