// SPDX-License-Identifier: Apache-2.0
// Parts far above the limit, one rank's alone above it, and totals just at it; the data are checked byte by
// byte.
#include <gtest/gtest.h>

#include <numeric>

#include "support/mpi_test.h"

namespace muster::comm {
namespace {

constexpr TransferLimit kOneKilobyte{1000};

struct Layout {
  const char* name;
  std::vector<std::uint64_t> (*counts)(std::size_t ranks);  ///< of 8-byte elements
};

std::vector<std::uint64_t> just_fits(std::size_t ranks) {
  std::vector<std::uint64_t> counts(ranks, 0);
  counts.back() = 125;  // 1,000 bytes
  return counts;
}
std::vector<std::uint64_t> one_too_many(std::size_t ranks) {
  auto counts = just_fits(ranks);
  ++counts.front();
  return counts;
}
std::vector<std::uint64_t> all_on_the_last(std::size_t ranks) {
  std::vector<std::uint64_t> counts(ranks, 0);
  counts.back() = 40000;
  return counts;
}
std::vector<std::uint64_t> growing(std::size_t ranks) {
  std::vector<std::uint64_t> counts(ranks);
  for (std::size_t r = 0; r < ranks; ++r) counts[r] = 1 + 3001 * r;
  return counts;
}

class LargeTransfers : public testing::TestWithParam<Layout> {
 protected:
  LargeTransfers()
      : world_(make_mpi_communicator(kOneKilobyte)),
        counts_(GetParam().counts(static_cast<std::size_t>(world_.size()))) {
    all_.resize(std::accumulate(counts_.begin(), counts_.end(), std::uint64_t{0}));
    std::iota(all_.begin(), all_.end(), std::uint64_t{1} << 40);
    const auto rank = static_cast<std::ptrdiff_t>(world_.rank());
    const auto first = std::accumulate(counts_.begin(), counts_.begin() + rank, std::ptrdiff_t{0});
    mine_.assign(all_.begin() + first,
                 all_.begin() + first + static_cast<std::ptrdiff_t>(counts_[static_cast<std::size_t>(rank)]));
  }
  Communicator world_;
  std::vector<std::uint64_t> counts_, all_, mine_;
};

INSTANTIATE_TEST_SUITE_P(Limit1kB, LargeTransfers,
                         testing::Values(Layout{"JustFits", just_fits}, Layout{"OneTooMany", one_too_many},
                                         Layout{"AllOnTheLast", all_on_the_last}, Layout{"Growing", growing}),
                         [](const auto& test) { return test.param.name; });

TEST_P(LargeTransfers, Scatterv) {
  std::vector<std::uint64_t> got(mine_.size());
  world_.scatterv(ConstBuffer(world_.is_root() ? all_ : std::vector<std::uint64_t>()), counts_, Buffer(got));
  EXPECT_EQ(got, mine_);
}

TEST_P(LargeTransfers, Gatherv) {
  std::vector<std::uint64_t> got(world_.is_root() ? all_.size() : 0);
  world_.gatherv(ConstBuffer(mine_), Buffer(got), counts_);
  if (world_.is_root()) {
    EXPECT_EQ(got, all_);
  }
}

TEST_P(LargeTransfers, OverlappingCallsDoNotMix) {
  // A rank that is done early goes on with the next call while root still serves others in the last.
  std::vector<std::uint64_t> got(mine_.size());
  for (int i = 0; i < 5; ++i) {
    world_.scatterv(ConstBuffer(all_), counts_, Buffer(got));
    EXPECT_EQ(got, mine_);
    std::vector<std::uint64_t> back(world_.is_root() ? all_.size() : 0);
    world_.gatherv(ConstBuffer(got), Buffer(back), counts_);
    if (world_.is_root()) {
      EXPECT_EQ(back, all_);
    }
  }
}

// More than 2^31 bytes for real: 2.25 GiB through one scatterv and one gatherv. Needs 7 GB; only asked for
// explicitly.
TEST(LargeTransfersFull, DISABLED_MoreThanTwoGigabytes) {
  Communicator world = make_mpi_communicator();
  const std::uint64_t total = (std::uint64_t{9} << 28) + 12345;
  std::vector<std::uint64_t> counts(static_cast<std::size_t>(world.size()), 0);
  counts.back() = total;
  std::vector<std::uint8_t> all(world.is_root() ? total : 0);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint8_t>(i * 2654435761u >> 13);
  const bool is_last = world.rank() == world.size() - 1;
  std::vector<std::uint8_t> part(is_last ? total : 0);
  world.scatterv(ConstBuffer(all), counts, Buffer(part));
  std::vector<std::uint8_t> back(all.size());
  world.gatherv(ConstBuffer(part), Buffer(back), counts);
  EXPECT_TRUE(back == all);
}

}  // namespace
}  // namespace muster::comm
