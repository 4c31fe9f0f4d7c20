// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "muster/taxonomy/hierarchy.h"

namespace muster::taxonomy {

/// What is true of a document and what was said of it.
struct Judgement {
  std::span<const ClassId> gold;
  std::span<const ClassId> predicted;  ///< best first
  std::span<const float> scores;       ///< of all classes; without them there is no MRR
};

/// A mean over documents and its standard error (the sample's deviation / sqrt(documents)).
struct Mean {
  double value = 0;
  double standard_error = 0;
};

/// P@k = h / k, or h / min(k, |gold|) so that every document can reach 1; h: gold classes among the k best.
enum class PrecisionForm { kOverK, kOverReachable };
/// The mean of 1 / rank over all pairs of document and gold class, or of each document's mean over its own.
enum class ReciprocalRankForm { kPooled, kPerDocument };

struct ClassCounts {
  std::uint64_t gold = 0;       ///< documents that have the class
  std::uint64_t predicted = 0;  ///< documents that were given it
  std::uint64_t hits = 0;       ///< both
  double f1() const;            ///< 2 hits / (gold + predicted); 0 when the class does not occur
};

/// Scores of multi-label predictions, as sums that ranks add up. Sums are in fixed point, so that the result
/// does not depend on who judged what. Means are 0 while nothing was counted.
class Scorecard {
 public:
  static constexpr std::array<std::size_t, 3> kCutoffs{1, 3, 5};  ///< the k of P@k

  explicit Scorecard(std::size_t classes);
  /// A document without gold classes counts as unlabelled and nowhere else. P@k goes by `scores`, or by the
  /// order of `predicted` where there are none.
  void add(const Judgement& judgement);
  /// All sums: cards of the same classes are merged by adding these element by element.
  std::span<std::uint64_t> sums() { return sums_; }
  void merge(const Scorecard& other);

  std::uint64_t documents() const { return sums_[kDocuments]; }
  std::uint64_t unlabelled() const { return sums_[kUnlabelled]; }
  /// Mean over documents of 2 |gold and predicted| / (|gold| + |predicted|) (TELEClass, Zhang et al., 2025,
  /// section 4.1.3; also called samples-F1).
  Mean example_f1() const;
  /// `cutoff` is one of kCutoffs.
  double precision_at(std::size_t cutoff, PrecisionForm form) const;
  /// rank of a gold class = 1 + classes that are not gold and score at least as high.
  double mean_reciprocal_rank(ReciprocalRankForm form) const;
  /// Over all pairs of document and class, and the mean over classes that occur in gold or predictions.
  double micro_f1() const;
  double macro_f1() const;
  ClassCounts counts(ClassId id) const;
  std::size_t classes() const { return (sums_.size() - kScalars) / kPerClass; }

 private:
  enum Scalar : std::size_t {
    kDocuments,
    kUnlabelled,
    kF1,
    kF1Squared,
    kRankedDocuments,
    kRankedPairs,
    kReciprocalRanks,
    kMeanReciprocalRanks,
    kPrecisionOverK,
    kPrecisionOverReachable = kPrecisionOverK + kCutoffs.size(),
    kScalars = kPrecisionOverReachable + kCutoffs.size(),
  };
  static constexpr std::size_t kPerClass = 3;

  void add_precisions(const Judgement& judgement, std::span<const ClassId> gold);
  void add_ranks(const Judgement& judgement, std::span<const ClassId> gold);
  double mean_of(Scalar sum, Scalar count) const;

  std::vector<std::uint64_t> sums_;
};

/// `documents` have the class `missed` and were given, wrongly, the class `instead`.
struct Confusion {
  ClassId missed = 0;
  ClassId instead = 0;
  std::uint64_t documents = 0;
  bool operator==(const Confusion&) const = default;
};

/// Which classes are taken for which. Merged by adding another one's worst().
class Confusions {
 public:
  void add(std::span<const ClassId> gold, std::span<const ClassId> predicted);
  void add(const Confusion& confusion);
  /// The `most` most frequent, most frequent first, equal ones by ids.
  std::vector<Confusion> worst(std::size_t most = SIZE_MAX) const;

 private:
  std::map<std::pair<ClassId, ClassId>, std::uint64_t> documents_;
};

}  // namespace muster::taxonomy
