// SPDX-License-Identifier: Apache-2.0
#include "muster/taxonomy/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "muster/core/philox.h"
#include "muster/taxonomy/decode.h"

namespace muster::taxonomy {
namespace {

using Ids = std::vector<ClassId>;
using Scores = std::vector<float>;
constexpr double kExact = 1e-9;  // sums are multiples of 2^-32

struct Case {
  const char* what;
  Ids gold, predicted;
  Scores scores;
  double f1, p1, p3, p3_reachable, mrr_pairs, mrr_document;
};

// Rank by hand: among classes that are not gold, those that score as high or higher come before.
const Case kCases[] = {
    {"all right", {0, 1}, {0, 1}, {9, 8, 7, 6, 5}, 1, 1, 2. / 3, 1, 1, 1},
    {"top 3 of two", {0, 1}, {0, 1, 2}, {9, 8, 7, 6, 5}, 0.8, 1, 2. / 3, 1, 1, 1},
    {"half", {0, 4}, {0, 1}, {9, 8, 7, 6, 5}, 0.5, 1, 1. / 3, 0.5, (1 + 1. / 4) / 2, (1 + 1. / 4) / 2},
    {"nothing right", {3}, {0, 1, 2}, {9, 8, 7, 6, 5}, 0, 0, 0, 0, 1. / 4, 1. / 4},
    {"nothing said", {3}, {}, {5, 6, 7, 8, 9}, 0, 0, 1. / 3, 1, 1. / 2, 1. / 2},
    {"ties count against gold", {1}, {1}, {5, 5, 5, 1, 1}, 1, 0, 1. / 3, 1, 1. / 3, 1. / 3},
    {"doubled ids count once", {1, 1}, {1, 1}, {1, 9, 1, 1, 1}, 1, 1, 1. / 3, 1, 1, 1},
    {"more gold than cutoff", {0, 1, 2, 3}, {0, 1, 2}, {9, 8, 7, 6, 5}, 6. / 7, 1, 1, 1, 1, 1},
};

TEST(Scorecard, OneDocument) {
  for (const auto& row : kCases) {
    Scorecard card(5);
    card.add({row.gold, row.predicted, row.scores});
    EXPECT_NEAR(card.example_f1().value, row.f1, kExact) << row.what;
    EXPECT_EQ(card.example_f1().standard_error, 0) << row.what;
    EXPECT_NEAR(card.precision_at(1, PrecisionForm::kOverK), row.p1, kExact) << row.what;
    EXPECT_NEAR(card.precision_at(3, PrecisionForm::kOverK), row.p3, kExact) << row.what;
    EXPECT_NEAR(card.precision_at(3, PrecisionForm::kOverReachable), row.p3_reachable, kExact) << row.what;
    EXPECT_NEAR(card.mean_reciprocal_rank(ReciprocalRankForm::kPooled), row.mrr_pairs, kExact) << row.what;
    EXPECT_NEAR(card.mean_reciprocal_rank(ReciprocalRankForm::kPerDocument), row.mrr_document, kExact)
        << row.what;
  }
}

TEST(Scorecard, MeansOverDocuments) {
  Scorecard card(5);
  double f1 = 0, squares = 0;
  for (const auto& row : kCases) {
    card.add({row.gold, row.predicted, row.scores});
    f1 += row.f1;
    squares += row.f1 * row.f1;
  }
  card.add({{}, Ids{1}, Scores(5)});
  const double count = std::size(kCases), mean = f1 / count;
  EXPECT_EQ(card.documents(), std::size(kCases));
  EXPECT_EQ(card.unlabelled(), 1u);
  EXPECT_NEAR(card.example_f1().value, mean, kExact);
  EXPECT_NEAR(card.example_f1().standard_error, std::sqrt((squares / count - mean * mean) / (count - 1)),
              kExact);
}

// Two documents, of one and of two gold classes at ranks 1, 2 and 4: pooled and per document differ.
TEST(Scorecard, TheTwoMeansOfReciprocalRanks) {
  Scorecard card(5);
  card.add({Ids{0}, {}, Scores{9, 1, 1, 1, 1}});
  card.add({Ids{1, 4}, {}, Scores{9, 8, 7, 6, 5}});
  EXPECT_NEAR(card.mean_reciprocal_rank(ReciprocalRankForm::kPooled), (1 + 1. / 2 + 1. / 4) / 3, kExact);
  EXPECT_NEAR(card.mean_reciprocal_rank(ReciprocalRankForm::kPerDocument), (1 + (1. / 2 + 1. / 4) / 2) / 2,
              kExact);
}

TEST(Scorecard, WithoutScoresPrecisionGoesByThePredictionsOrder) {
  Scorecard card(5);
  card.add({Ids{0, 1}, Ids{4, 1, 0}, {}});
  EXPECT_NEAR(card.precision_at(1, PrecisionForm::kOverK), 0, kExact);
  EXPECT_NEAR(card.precision_at(3, PrecisionForm::kOverK), 2. / 3, kExact);
  EXPECT_EQ(card.mean_reciprocal_rank(ReciprocalRankForm::kPooled), 0);
}

TEST(Scorecard, MicroAndMacroF1) {
  Scorecard card(6);
  card.add({Ids{0, 1}, Ids{0, 2}, {}});
  card.add({Ids{0}, Ids{0, 1}, {}});
  card.add({Ids{3}, Ids{0}, {}});
  // hits 2, gold 4, predicted 5; by class: 0: 2*2/(2+3), 1, 2, 3: 0, and 4, 5 do not occur
  EXPECT_NEAR(card.micro_f1(), 4. / 9, kExact);
  EXPECT_NEAR(card.macro_f1(), 0.8 / 4, kExact);
  EXPECT_EQ(card.counts(0).gold, 2u);
  EXPECT_EQ(card.counts(0).predicted, 3u);
  EXPECT_EQ(card.counts(0).hits, 2u);
  EXPECT_EQ(card.counts(5).f1(), 0);
}

TEST(Scorecard, EmptyIsZero) {
  Scorecard card(2);
  EXPECT_EQ(card.example_f1().value, 0);
  EXPECT_EQ(card.precision_at(5, PrecisionForm::kOverK), 0);
  EXPECT_EQ(card.micro_f1() + card.macro_f1(), 0);
}

TEST(Scorecard, ScoresThatAreNoNumbersComeLast) {
  Scorecard card(3);
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  card.add({Ids{0}, {}, Scores{kNan, 0, kNan}});
  EXPECT_NEAR(card.mean_reciprocal_rank(ReciprocalRankForm::kPooled), 1. / 3, kExact);
}

// 300 random documents dealt to 1, 2, 3 and 7 cards, in another order each time: the same bits.
TEST(Scorecard, MergedCardsDoNotShowWhoJudgedWhat) {
  constexpr std::uint64_t kDocuments = 300;
  const auto judge = [](Scorecard& card, std::uint64_t document) {
    core::Philox random(3, document);
    Scores scores(20);
    for (auto& score : scores) score = random.next_uniform();
    Ids gold;
    for (ClassId id = 0; id < 20; ++id)
      if (random.next_below(7) == 0) gold.push_back(id);
    card.add({gold, top_k(scores, 3), scores});
  };
  Scorecard one(20);
  for (std::uint64_t i = 0; i < kDocuments; ++i) judge(one, i);
  for (const std::uint64_t ranks : {2u, 3u, 7u}) {
    std::vector<Scorecard> cards(ranks, Scorecard(20));
    for (std::uint64_t i = kDocuments; i-- > 0;) judge(cards[i % ranks], i);
    for (std::size_t i = 1; i < ranks; ++i) cards[0].merge(cards[i]);
    EXPECT_TRUE(std::ranges::equal(cards[0].sums(), one.sums())) << ranks;
  }
}

// Labels of a published size: 7.4 % of the documents have two, the others three. Predicting the gold classes
// and, to make three, a wrong one gives the ceilings that the papers' top-3 rule has on such data.
TEST(Scorecard, CeilingsOfTheTopThreeRule) {
  constexpr int kDocuments = 19'658, kOfTwo = 1'447;
  Scorecard card(531);
  for (int i = 0; i < kDocuments; ++i) {
    const Ids gold = i < kOfTwo ? Ids{0, 1} : Ids{0, 1, 2};
    card.add({gold, Ids{0, 1, 2}, {}});
  }
  EXPECT_NEAR(card.example_f1().value, 0.985278, 5e-7);
  EXPECT_NEAR(card.precision_at(3, PrecisionForm::kOverK), 0.975464, 5e-7);
  EXPECT_NEAR(card.precision_at(3, PrecisionForm::kOverReachable), 1, kExact);
}

TEST(Confusions, CountsMissedAgainstInstead) {
  Confusions confusions, others;
  confusions.add(Ids{0, 1}, Ids{0, 2});  // 1 taken for 2
  confusions.add(Ids{1}, Ids{3, 2});     // 1 taken for 2 and for 3
  others.add(Ids{4}, Ids{3});
  others.add(Ids{1}, Ids{1, 5});  // nothing missed
  others.add(Ids{1}, Ids{});      // nothing instead
  for (const auto& confusion : others.worst()) confusions.add(confusion);
  EXPECT_EQ(confusions.worst(), (std::vector<Confusion>{{1, 2, 2}, {1, 3, 1}, {4, 3, 1}}));
  EXPECT_EQ(confusions.worst(1), (std::vector<Confusion>{{1, 2, 2}}));
}

}  // namespace
}  // namespace muster::taxonomy
