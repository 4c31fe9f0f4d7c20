// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>

#include "support/mpi_test.h"

namespace muster::comm {
namespace {

TEST(CommSession, EveryRankOfOneMachineKnowsItsPlace) {
  const RankPlace& place = test::session().place();
  Communicator& world = test::session().world();
  EXPECT_EQ(place.rank, world.rank());
  EXPECT_EQ(place.size, world.size());
  EXPECT_EQ(place.local_rank, place.rank);
  EXPECT_EQ(place.local_size, place.size);
  EXPECT_EQ(place.node, 0);
  EXPECT_EQ(place.nodes, 1);
  EXPECT_FALSE(place.host.empty());
  EXPECT_EQ(world.all_reduce_value(place.job, Op::kMin), world.all_reduce_value(place.job, Op::kMax));
  EXPECT_NE(place.job, 0u);
}

TEST(CommSession, CoresAreSharedWithoutOverlapWhileTheyLast) {
  const RankPlace& place = test::session().place();
  Communicator& world = test::session().world();
  ASSERT_FALSE(place.cores.empty());
  EXPECT_TRUE(std::ranges::is_sorted(place.cores));
  const auto total = world.all_reduce_value<std::uint64_t>(place.cores.size(), Op::kSum);
  constexpr std::size_t kWidth = 1024;
  std::vector<std::uint32_t> used(kWidth);
  for (const int core : place.cores) ++used[static_cast<std::size_t>(core) % kWidth];
  world.all_reduce(Buffer(used));
  const auto distinct = static_cast<std::uint64_t>(std::ranges::count_if(used, [](auto n) { return n > 0; }));
  if (distinct >= static_cast<std::uint64_t>(world.size())) {
    EXPECT_EQ(distinct, total);
  }
}

TEST(CommSession, LabelsNameRankAndHostWhenThereAreSeveral) {
  RankPlace place;
  EXPECT_EQ(rank_label(place), "");
  place.rank = 3;
  place.size = 8;
  place.host = "node7";
  EXPECT_EQ(rank_label(place), "rank 3/8 node7");
}

}  // namespace
}  // namespace muster::comm
