// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "muster/nn/module.h"

namespace muster::nn {

/// Neighbouring sequences of one length: `count` x `length` rows from `first_row` on.
struct SequenceRun {
  std::int64_t first_row = 0;
  std::int64_t count = 0;
  std::int64_t length = 0;
};

/// Cuts sequences that lie one after another into runs of equal length.
std::vector<SequenceRun> runs_of_equal_length(std::span<const std::uint32_t> lengths);

struct HeadShape {
  std::int64_t heads = 0;
  std::int64_t width = 0;  ///< of a head, as the checkpoint has it

  /// Width in memory: matrix kernels may round differently for differently aligned rows, so a head starts on
  /// a cache line whatever its row. The columns added are zero and change no product.
  std::int64_t padded_width(c10::ScalarType dtype) const;
};

/// What is added to the scaled scores of a head, or nothing.
class AttentionBias {
 public:
  AttentionBias() = default;
  /// [1, heads, n, n], n at least the longest sequence.
  AttentionBias(at::Tensor scores) : scores_(std::move(scores)) {}  // NOLINT(google-explicit-constructor)
  /// A bias that only depends on key - query, as in T5 (Raffel et al., 2019): `by_distance` is fp32 [heads,
  /// 2n - 1], distance 1 - n first. Kept as it is where our kernels run, spread to [1, heads, n, n] for
  /// LibTorch's.
  static AttentionBias by_distance(const at::Tensor& by_distance, const ComputeTarget& target);

  bool defined() const { return scores_.defined() || distances_.defined(); }
  const at::Tensor& scores() const { return scores_; }        ///< undefined if by distance for our kernels
  const at::Tensor& distances() const { return distances_; }  ///< [heads, 2n - 1] or undefined

 private:
  at::Tensor scores_, distances_;
};

/// Attention of every sequence to itself alone, without padded keys, so that a sequence's bytes do not depend
/// on the others. `qkv` is [rows, 3 * heads * padded width], rows behind the last run are ignored; the result
/// goes to `context` [rows, heads * padded width], zero behind the last run.
void attend(const at::Tensor& qkv, std::span<const SequenceRun> runs, const HeadShape& shape,
            const AttentionBias& bias, at::Tensor& context);

}  // namespace muster::nn
