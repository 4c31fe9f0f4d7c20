// SPDX-License-Identifier: Apache-2.0
#include "phases/train/epoch_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

namespace muster::phases {
namespace {

DocumentList first_documents(std::uint32_t count) {
  DocumentList documents(count);
  std::iota(documents.begin(), documents.end(), 0U);
  return documents;
}

// 1 to 97, in no order.
std::vector<std::uint32_t> some_lengths(std::uint32_t count) {
  std::vector<std::uint32_t> lengths;
  for (std::uint32_t i = 0; i < count; ++i) lengths.push_back(1 + (i * 37) % 97);
  return lengths;
}

struct EpochCase {
  std::uint32_t documents;
  std::uint64_t global_batch;
  Grouping grouping;
};

class EpochPlan : public testing::TestWithParam<EpochCase> {};

TEST_P(EpochPlan, HoldsEveryDocumentOnceInBatchesOfOneSize) {
  const auto& [count, global_batch, grouping] = GetParam();
  const auto documents = first_documents(count);
  const auto lengths = some_lengths(count);
  const auto batches =
      plan_epoch(documents, lengths, {.seed = 7, .global_batch = global_batch, .grouping = grouping}, 3);
  EXPECT_EQ(batches.size(), batches_of_epoch(count, global_batch));
  DocumentList seen;
  std::size_t smaller = 0;
  for (const auto& batch : batches) {
    EXPECT_FALSE(batch.empty());
    EXPECT_LE(batch.size(), global_batch);
    smaller += batch.size() < global_batch;
    seen.insert(seen.end(), batch.begin(), batch.end());
  }
  EXPECT_LE(smaller, 1U);
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, documents);
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, EpochPlan,
    testing::Values(EpochCase{0, 4, Grouping::kByLength}, EpochCase{1, 4, Grouping::kByLength},
                    EpochCase{1000, 16, Grouping::kByLength}, EpochCase{1003, 16, Grouping::kByLength},
                    EpochCase{1003, 16, Grouping::kNone}, EpochCase{5, 64, Grouping::kByLength}));

TEST(EpochPlanOrder, DependsOnSeedAndEpochOnly) {
  const auto documents = first_documents(300);
  const auto lengths = some_lengths(300);
  const EpochConfig config{.seed = 1, .global_batch = 8};
  const auto plan = plan_epoch(documents, lengths, config, 0);
  EXPECT_EQ(plan_epoch(documents, lengths, config, 0), plan);
  EXPECT_NE(plan_epoch(documents, lengths, config, 1), plan);
  EXPECT_NE(plan_epoch(documents, lengths, {.seed = 2, .global_batch = 8}, 0), plan);
}

TEST(EpochPlanOrder, GroupingPutsSimilarLengthsTogether) {
  const auto documents = first_documents(2000);
  const auto lengths = some_lengths(2000);
  const auto spread = [&](Grouping grouping) {
    double sum = 0;
    for (const auto& batch :
         plan_epoch(documents, lengths, {.seed = 1, .global_batch = 16, .grouping = grouping}, 0)) {
      const auto [least, most] = std::minmax_element(batch.begin(), batch.end(),
                                                     [&](auto a, auto b) { return lengths[a] < lengths[b]; });
      sum += lengths[*most] - lengths[*least];
    }
    return sum;
  };
  EXPECT_LT(spread(Grouping::kByLength), 0.1 * spread(Grouping::kNone));
}

TEST(Slots, AreOfAboutEqualCostAndHoldTheBatch) {
  const auto lengths = some_lengths(500);
  const auto batch = first_documents(64);
  const plan::CostModel cost{.per_item = 0, .linear = 1, .quadratic = 0.01};
  const auto slots = cut_slots(batch, lengths, 8, cost);
  std::vector<double> loads;
  DocumentList all;
  for (const auto& slot : slots) {
    double load = 0;
    for (const auto document : slot) load += cost(lengths[document]);
    loads.push_back(load);
    all.insert(all.end(), slot.begin(), slot.end());
    EXPECT_TRUE(
        std::is_sorted(slot.begin(), slot.end(), [&](auto a, auto b) { return lengths[a] > lengths[b]; }));
  }
  EXPECT_LT(plan::balance(loads), 1.1);
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, batch);
}

TEST(Slots, DoNotDependOnTheOrderOfTheBatch) {
  const auto lengths = some_lengths(100);
  auto batch = first_documents(40);
  const auto slots = cut_slots(batch, lengths, 8, {});
  std::reverse(batch.begin(), batch.end());
  EXPECT_EQ(cut_slots(batch, lengths, 8, {}), slots);
}

TEST(Slots, SomeAreEmptyWhenThereAreFewerDocuments) {
  const auto slots = cut_slots(first_documents(3), some_lengths(3), 8, {});
  EXPECT_EQ(std::count_if(slots.begin(), slots.end(), [](const auto& slot) { return slot.empty(); }), 5);
}

TEST(MicroBatches, KeepTheBudgetUnlessADocumentIsLonger) {
  const std::vector<std::uint32_t> lengths{50, 10, 30, 20, 20};
  const DocumentList slot{0, 1, 2, 3, 4};
  const auto cut = cut_micro_batches(slot, lengths, 40);
  std::vector<DocumentList> parts;
  for (const auto& part : cut) parts.emplace_back(part.begin(), part.end());
  EXPECT_EQ(parts, (std::vector<DocumentList>{{0}, {1, 2}, {3, 4}}));
  EXPECT_TRUE(cut_micro_batches({}, lengths, 40).empty());
}

TEST(Shuffled, IsAPermutationOfItsSeed) {
  const auto order = shuffled(1000, 5, 9);
  EXPECT_EQ(std::set<std::uint32_t>(order.begin(), order.end()).size(), 1000U);
  EXPECT_EQ(order, shuffled(1000, 5, 9));
  EXPECT_NE(order, shuffled(1000, 5, 10));
}

}  // namespace
}  // namespace muster::phases
