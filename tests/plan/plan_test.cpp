// SPDX-License-Identifier: Apache-2.0
#include "muster/plan/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "muster/core/error.h"
#include "muster/core/philox.h"

namespace muster::plan {
namespace {

// Lengths like those of real descriptions: log-normal with a long tail, cut at 384 tokens.
std::vector<std::uint32_t> natural_lengths(std::size_t count, std::uint64_t seed) {
  std::vector<std::uint32_t> lengths(count);
  for (std::size_t i = 0; i < count; ++i) {
    core::Philox random(seed, i);
    const double u = std::max(1e-6f, random.next_uniform()), v = random.next_uniform();
    const double normal = std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
    lengths[i] = static_cast<std::uint32_t>(std::clamp(std::exp(4.2 + 0.7 * normal), 3.0, 384.0));
  }
  return lengths;
}

CutConfig mpnet_config() {
  CutConfig config;
  config.cost = {.per_item = 0, .linear = 170e6, .quadratic = 4 * 768 * 12};
  return config;
}

void expect_every_item_once(const std::vector<MicroBatch>& batches, std::size_t count) {
  std::vector<int> seen(count, 0);
  for (const auto& batch : batches) {
    EXPECT_FALSE(batch.items.empty());
    for (const auto item : batch.items) ++seen.at(item);
  }
  EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
}

TEST(CutWindow, HoldsEveryItemOnceWithinTheBudget) {
  for (const std::size_t count : {0u, 1u, 2u, 7u, 1000u, 20000u}) {
    const auto lengths = natural_lengths(count, 1);
    const auto batches = cut_window(lengths, mpnet_config());
    expect_every_item_once(batches, count);
    for (const auto& batch : batches) {
      std::uint64_t sum = 0;
      for (const auto item : batch.items) sum += lengths[item];
      EXPECT_EQ(sum, batch.length);
      EXPECT_TRUE(sum <= mpnet_config().batch_tokens || batch.items.size() == 1);
    }
  }
}

TEST(CutWindow, DoesNotDependOnAnythingButLengths) {
  const auto lengths = natural_lengths(5000, 2);
  EXPECT_EQ(plan_digest(cut_window(lengths, mpnet_config())),
            plan_digest(cut_window(lengths, mpnet_config())));
  auto other = lengths;
  other[17] = other[17] > 200 ? 3 : 384;
  EXPECT_NE(plan_digest(cut_window(lengths, mpnet_config())), plan_digest(cut_window(other, mpnet_config())));
}

TEST(CutWindow, AnItemLongerThanTheBudgetTravelsAlone) {
  const std::vector<std::uint32_t> lengths{10000, 5, 5};
  const auto batches = cut_window(lengths, mpnet_config());
  EXPECT_EQ(batches.front().items, std::vector<std::uint32_t>{0});
}

TEST(CutWindow, FixedItemCounts) {
  CutConfig config = mpnet_config();
  config.batch_items = 32;
  const auto batches = cut_window(natural_lengths(100, 3), config);
  ASSERT_EQ(batches.size(), 4u);
  EXPECT_EQ(batches[0].items.size(), 32u);
  EXPECT_EQ(batches[3].items.size(), 4u);
}

struct BalanceCase {
  std::size_t items;
  int ranks;
  double at_most;
};

// The bound of the contract for 2 and 64 ranks; 1,024 ranks see 64 documents each and about 4,300 tokens.
TEST(DealBalanced, StaysBalanced) {
  for (const auto& c :
       {BalanceCase{49145, 2, 1.001}, {49145, 8, 1.003}, {49145, 64, 1.02}, {65536, 1024, 1.25}}) {
    const auto batches = cut_window(natural_lengths(c.items, 4), mpnet_config());
    std::vector<double> loads(static_cast<std::size_t>(c.ranks), 0.0);
    const auto deal = deal_balanced(batches, loads);
    std::size_t dealt = 0;
    for (const auto& mine : deal) dealt += mine.size();
    EXPECT_EQ(dealt, batches.size());
    EXPECT_LE(balance(loads), c.at_most) << c.ranks << " ranks";
  }
}

TEST(DealBalanced, LaterWindowsEvenOutEarlierOnes) {
  std::vector<double> loads(1024, 0.0);
  for (std::uint64_t window = 0; window < 8; ++window) {
    deal_balanced(cut_window(natural_lengths(65536, 10 + window), mpnet_config()), loads);
  }
  EXPECT_LE(balance(loads), 1.03);
}

TEST(DealBalanced, RespectsEarlierLoads) {
  const std::vector<MicroBatch> batches{{.items = {0}, .length = 1, .cost = 5},
                                        {.items = {1}, .length = 1, .cost = 4}};
  std::vector<double> loads{100, 0};
  const auto deal = deal_balanced(batches, loads);
  EXPECT_TRUE(deal[0].empty());
  EXPECT_EQ(deal[1].size(), 2u);
}

TEST(DealCeil, GivesTheDocumentedShares) {
  struct Case {
    std::uint32_t items;
    int ranks;
    std::vector<std::uint32_t> counts;
  };
  for (const auto& c : std::vector<Case>{{5, 4, {2, 2, 1, 0}},
                                         {0, 3, {0, 0, 0}},
                                         {3, 8, {1, 1, 1, 0, 0, 0, 0, 0}},
                                         {8, 2, {4, 4}},
                                         {9, 4, {3, 3, 3, 0}},
                                         {7, 1, {7}}}) {
    const auto blocks = deal_ceil(c.items, c.ranks);
    std::vector<std::uint32_t> counts;
    std::uint32_t next = 0;
    for (const auto& block : blocks) {
      if (block.count > 0) {
        EXPECT_EQ(block.first, next);
      }
      next += block.count;
      counts.push_back(block.count);
    }
    EXPECT_EQ(counts, c.counts);
    EXPECT_EQ(next, c.items);
  }
}

TEST(CutInOrder, KeepsInputOrder) {
  const auto lengths = natural_lengths(500, 5);
  const auto batches = cut_in_order(lengths, 100, 300, mpnet_config());
  std::vector<std::uint32_t> items;
  for (const auto& batch : batches) items.insert(items.end(), batch.items.begin(), batch.items.end());
  std::vector<std::uint32_t> expected(300);
  std::iota(expected.begin(), expected.end(), 100u);
  EXPECT_EQ(items, expected);
}

TEST(Balance, OfNothingIsOne) {
  EXPECT_EQ(balance({}), 1);
  const std::vector<double> idle{0, 0};
  EXPECT_EQ(balance(idle), 1);
}

TEST(CutConfig, RefusesNonsense) {
  for (const auto& bad : {CutConfig{.batch_tokens = 0}, CutConfig{.tile = 0}, CutConfig{.taper = 2}}) {
    EXPECT_THROW(bad.validate(), core::ConfigError);
  }
}

}  // namespace
}  // namespace muster::plan
