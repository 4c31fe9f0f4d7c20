// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "phases/infer/label_decoder.h"

namespace muster::phases {

/// What a document's record holds besides its prediction.
struct DocumentFacts {
  std::int32_t tokens = 0;
  bool truncated = false;
};

/// A record's payload, in words of four bytes: tokens, truncated, number of labels; labels, their scores; top
/// classes, their scores; the logits of all classes, when they are kept.
class PredictionRecord {
 public:
  /// How many top classes and logits every record of a job has.
  struct Shape {
    std::size_t top = 0, logits = 0;
  };
  using Bytes = std::span<const std::byte>;

  static std::vector<std::byte> pack(const DocumentFacts& facts, const Prediction& prediction,
                                     std::span<const float> logits);
  static std::size_t bytes(const Shape& shape, std::size_t labels);
  /// Labels in a record of so many bytes.
  static std::size_t labels_in(const Shape& shape, std::size_t payload_bytes);

  /// Looks at a payload, which must stay.
  PredictionRecord(const Shape& shape, Bytes payload);
  std::size_t label_count() const { return labels_; }
  bool truncated() const;
  Bytes tokens() const { return words(0, 1); }
  Bytes labels() const { return words(kHeader, labels_); }
  Bytes scores() const { return words(kHeader + labels_, labels_); }
  Bytes top() const { return words(kHeader + 2 * labels_, shape_.top); }
  Bytes top_scores() const { return words(kHeader + 2 * labels_ + shape_.top, shape_.top); }
  Bytes before_logits() const { return words(0, logits_at()); }
  Bytes logits() const { return words(logits_at(), shape_.logits); }

 private:
  static constexpr std::size_t kHeader = 3;
  std::size_t logits_at() const { return kHeader + 2 * labels_ + 2 * shape_.top; }
  Bytes words(std::size_t first, std::size_t count) const;

  Shape shape_;
  Bytes payload_;
  std::size_t labels_ = 0;
};

}  // namespace muster::phases
