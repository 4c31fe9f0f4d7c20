// SPDX-License-Identifier: Apache-2.0
#include "phases/infer/label_decoder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "phases/infer/prediction_record.h"

namespace muster::phases {
namespace {

using Labels = std::vector<taxonomy::ClassId>;

struct Row {
  const char* what;
  std::vector<float> logits;
  DecodeOptions options;
  Labels labels;
};

// 0 -> 1 -> 2, and 3 by itself.
taxonomy::Hierarchy chain() {
  const taxonomy::Edge edges[] = {{0, 1, 1}, {1, 2, 2}};
  return {4, edges, "chain"};
}

const DecodeOptions kClosedBest{.rule = LabelRule::kArgmax, .closure = LabelClosure::kAncestors};

DecodeOptions limited(DecodeOptions options, std::size_t least, std::size_t most) {
  options.min_labels = least;
  options.max_labels = most;
  return options;
}

TEST(InferDecoder, Table) {
  using enum LabelRule;
  using enum ScoreFunction;
  const DecodeOptions top2{.rule = kTopK, .top_k = 2};
  const Row rows[] = {
      {"ranked by logits where scores are all 1", {100, 200, 150, 0}, top2, {1, 2}},
      {"ties go to the smaller id", {1, 1, 1, 1}, top2, {0, 1}},
      {"softmax is above 0.1 for two",
       {0, 1, 3, -9},
       {.rule = kThreshold, .function = kSoftmax, .threshold = 0.1},
       {2, 1}},
      {"and above 0.2 for one",
       {0, 1, 3, -9},
       {.rule = kThreshold, .function = kSoftmax, .threshold = 0.2},
       {2}},
      {"the best one when none is above", {-3, -1, -2, -9}, {.rule = kThreshold, .threshold = 0.5}, {1}},
      {"at the threshold is enough", {0, 1, -1, -9}, {.rule = kThreshold, .threshold = 0.5}, {1, 0}},
      {"a threshold on logits",
       {2, 3, 4, 5},
       {.rule = kThreshold, .function = kNone, .threshold = 4},
       {3, 2}},
      {"ancestors behind the label", {-5, -4, 2, 1}, kClosedBest, {2, 0, 1}},
      {"the next best where there are too few", {-5, -4, 2, 1}, limited(kClosedBest, 4, 4), {2, 0, 1, 3}},
      {"what is left is closed", {-5, -4, 2, 1}, limited(kClosedBest, 1, 2), {0, 1}},
      {"down to its root", {-5, -4, 2, 1}, limited(kClosedBest, 1, 1), {0}},
      {"added classes bring their ancestors", {-5, 3, -4, 4}, limited(kClosedBest, 2, 9), {3, 1, 0}},
      {"without a hierarchy the least likely go", {1, 3, 2, 4}, limited({.top_k = 4}, 1, 2), {3, 1}},
  };
  for (const Row& row : rows) {
    const auto found = LabelDecoder(row.options, chain()).decode(row.logits);
    EXPECT_EQ(found.labels, row.labels) << row.what;
    EXPECT_EQ(found.scores.size(), found.labels.size()) << row.what;
  }
}

TEST(InferDecoder, ScoresOfAllClassesAreThoseOfTheLabels) {
  const std::vector<float> logits{-1.5F, 0.25F, 88, 3};
  for (const auto function : {ScoreFunction::kSigmoid, ScoreFunction::kSoftmax, ScoreFunction::kNone}) {
    const LabelDecoder decoder({.function = function, .top_k = 4, .top_scores = 1}, chain());
    std::vector<float> all(logits.size());
    decoder.scores(logits, all);
    const auto found = decoder.decode(logits);
    for (std::size_t i = 0; i < found.labels.size(); ++i)
      EXPECT_EQ(found.scores[i], all[static_cast<std::size_t>(found.labels[i])]);
    EXPECT_EQ(found.top, (Labels{2}));
    EXPECT_EQ(found.top_scores.at(0), all[2]);
    for (const float score : all) EXPECT_TRUE(std::isfinite(score));
  }
}

TEST(InferRecord, GivesBackWhatWasPacked) {
  const Prediction prediction{.labels = {3, 1}, .scores = {0.5F, 0.25F}, .top = {3}, .top_scores = {0.5F}};
  const std::vector<float> logits{1, 2, 3, 4};
  const PredictionRecord::Shape shape{.top = 1, .logits = 4};
  const auto payload = PredictionRecord::pack({.tokens = 7, .truncated = true}, prediction, logits);
  EXPECT_EQ(payload.size(), PredictionRecord::bytes(shape, 2));
  EXPECT_EQ(PredictionRecord::labels_in(shape, payload.size()), 2u);
  const PredictionRecord record(shape, payload);
  EXPECT_TRUE(record.truncated());
  const auto same = [](std::span<const std::byte> bytes, const auto& values) {
    const auto expected = std::as_bytes(std::span(values));
    return std::equal(bytes.begin(), bytes.end(), expected.begin(), expected.end());
  };
  EXPECT_TRUE(same(record.labels(), prediction.labels));
  EXPECT_TRUE(same(record.scores(), prediction.scores));
  EXPECT_TRUE(same(record.top(), prediction.top));
  EXPECT_TRUE(same(record.top_scores(), prediction.top_scores));
  EXPECT_TRUE(same(record.logits(), logits));
  EXPECT_THROW(PredictionRecord(shape, std::span(payload).first(payload.size() - 4)), std::exception);
}

}  // namespace
}  // namespace muster::phases
