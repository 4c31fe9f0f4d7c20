// SPDX-License-Identifier: Apache-2.0
#include "muster/taxonomy/metrics.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "muster/core/error.h"
#include "muster/taxonomy/decode.h"
#include "taxonomy/score_order.h"

namespace muster::taxonomy {
namespace {

// Numbers of [0, 1] as multiples of 2^-32: sums of four thousand million of them fit, and have no order.
constexpr double kOne = 0x1p32;

std::uint64_t fixed(double value) {
  return static_cast<std::uint64_t>(std::llround(value * kOne));
}

std::vector<ClassId> sorted_set(std::span<const ClassId> classes) {
  std::vector<ClassId> set(classes.begin(), classes.end());
  std::sort(set.begin(), set.end());
  set.erase(std::unique(set.begin(), set.end()), set.end());
  return set;
}

bool holds(std::span<const ClassId> sorted, ClassId id) {
  return std::binary_search(sorted.begin(), sorted.end(), id);
}

double ratio(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}

}  // namespace

double ClassCounts::f1() const {
  return ratio(2.0 * static_cast<double>(hits), static_cast<double>(gold + predicted));
}

Scorecard::Scorecard(std::size_t classes) : sums_(kScalars + kPerClass * classes) {}

void Scorecard::add(const Judgement& judgement) {
  const auto gold = sorted_set(judgement.gold);
  if (gold.empty()) {
    ++sums_[kUnlabelled];
    return;
  }
  const auto predicted = sorted_set(judgement.predicted);
  const auto of_class = [this](ClassId id) {
    core::internal_check(id >= 0 && static_cast<std::size_t>(id) < classes(), "a class of the score card");
    return &sums_[kScalars + kPerClass * static_cast<std::size_t>(id)];
  };
  std::uint64_t hits = 0;
  for (const ClassId id : gold) ++of_class(id)[0];
  for (const ClassId id : predicted) {
    ++of_class(id)[1];
    if (!holds(gold, id)) continue;
    ++of_class(id)[2];
    ++hits;
  }
  const double f1 = 2.0 * static_cast<double>(hits) / static_cast<double>(gold.size() + predicted.size());
  ++sums_[kDocuments];
  sums_[kF1] += fixed(f1);
  sums_[kF1Squared] += fixed(f1 * f1);
  add_precisions(judgement, gold);
  if (!judgement.scores.empty()) add_ranks(judgement, gold);
}

void Scorecard::add_precisions(const Judgement& judgement, std::span<const ClassId> gold) {
  const auto ranking = judgement.scores.empty()
                           ? std::vector<ClassId>(judgement.predicted.begin(), judgement.predicted.end())
                           : top_k(judgement.scores, kCutoffs.back());
  for (std::size_t i = 0; i < kCutoffs.size(); ++i) {
    const auto best = std::span(ranking).first(std::min(kCutoffs[i], ranking.size()));
    const auto hits = static_cast<double>(
        std::count_if(best.begin(), best.end(), [gold](ClassId id) { return holds(gold, id); }));
    sums_[kPrecisionOverK + i] += fixed(hits / static_cast<double>(kCutoffs[i]));
    sums_[kPrecisionOverReachable + i] +=
        fixed(hits / static_cast<double>(std::min(kCutoffs[i], gold.size())));
  }
}

void Scorecard::add_ranks(const Judgement& judgement, std::span<const ClassId> gold) {
  core::internal_check(judgement.scores.size() == classes(), "a score for every class of the score card");
  double sum = 0;
  for (const ClassId id : gold) {
    const float own = comparable(judgement.scores[static_cast<std::size_t>(id)]);
    std::size_t rank = 1;
    for (std::size_t other = 0; other < judgement.scores.size(); ++other)
      if (comparable(judgement.scores[other]) >= own && !holds(gold, static_cast<ClassId>(other))) ++rank;
    const double reciprocal = 1.0 / static_cast<double>(rank);
    sums_[kReciprocalRanks] += fixed(reciprocal);
    sum += reciprocal;
  }
  sums_[kRankedPairs] += gold.size();
  ++sums_[kRankedDocuments];
  sums_[kMeanReciprocalRanks] += fixed(sum / static_cast<double>(gold.size()));
}

void Scorecard::merge(const Scorecard& other) {
  core::internal_check(sums_.size() == other.sums_.size(), "score cards of the same classes");
  std::transform(sums_.begin(), sums_.end(), other.sums_.begin(), sums_.begin(), std::plus<>());
}

double Scorecard::mean_of(Scalar sum, Scalar count) const {
  return ratio(static_cast<double>(sums_[sum]) / kOne, static_cast<double>(sums_[count]));
}

Mean Scorecard::example_f1() const {
  const double count = static_cast<double>(documents()), mean = mean_of(kF1, kDocuments);
  if (count < 2) return {mean, 0};
  const double variance = (mean_of(kF1Squared, kDocuments) - mean * mean) * count / (count - 1);
  return {mean, std::sqrt(std::max(0.0, variance) / count)};
}

double Scorecard::precision_at(std::size_t cutoff, PrecisionForm form) const {
  const auto found = std::find(kCutoffs.begin(), kCutoffs.end(), cutoff);
  core::internal_check(found != kCutoffs.end(), "a cutoff that the score card counts");
  const auto first = form == PrecisionForm::kOverK ? kPrecisionOverK : kPrecisionOverReachable;
  return mean_of(static_cast<Scalar>(first + std::distance(kCutoffs.begin(), found)), kDocuments);
}

double Scorecard::mean_reciprocal_rank(ReciprocalRankForm form) const {
  return form == ReciprocalRankForm::kPooled ? mean_of(kReciprocalRanks, kRankedPairs)
                                             : mean_of(kMeanReciprocalRanks, kRankedDocuments);
}

ClassCounts Scorecard::counts(ClassId id) const {
  const auto* sums = &sums_[kScalars + kPerClass * static_cast<std::size_t>(id)];
  return {.gold = sums[0], .predicted = sums[1], .hits = sums[2]};
}

double Scorecard::micro_f1() const {
  ClassCounts all;
  for (std::size_t i = 0; i < classes(); ++i) {
    const auto one = counts(static_cast<ClassId>(i));
    all.gold += one.gold;
    all.predicted += one.predicted;
    all.hits += one.hits;
  }
  return all.f1();
}

double Scorecard::macro_f1() const {
  double sum = 0;
  std::size_t occurring = 0;
  for (std::size_t i = 0; i < classes(); ++i) {
    const auto one = counts(static_cast<ClassId>(i));
    if (one.gold + one.predicted == 0) continue;
    sum += one.f1();
    ++occurring;
  }
  return ratio(sum, static_cast<double>(occurring));
}

void Confusions::add(std::span<const ClassId> gold, std::span<const ClassId> predicted) {
  const auto truth = sorted_set(gold), said = sorted_set(predicted);
  for (const ClassId missed : truth) {
    if (holds(said, missed)) continue;
    for (const ClassId instead : said)
      if (!holds(truth, instead)) ++documents_[{missed, instead}];
  }
}

void Confusions::add(const Confusion& confusion) {
  documents_[{confusion.missed, confusion.instead}] += confusion.documents;
}

std::vector<Confusion> Confusions::worst(std::size_t most) const {
  std::vector<Confusion> all;
  all.reserve(documents_.size());
  for (const auto& [classes, documents] : documents_)
    all.push_back({classes.first, classes.second, documents});
  std::stable_sort(all.begin(), all.end(),
                   [](const Confusion& a, const Confusion& b) { return a.documents > b.documents; });
  if (all.size() > most) all.resize(most);
  return all;
}

}  // namespace muster::taxonomy
