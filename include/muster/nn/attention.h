// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

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

/// Attention of every sequence to itself alone, without padded keys, so that a sequence's bytes do not depend
/// on the others. `qkv` is [rows, 3 * heads * padded width], rows behind the last run are ignored; `bias` is
/// [1, heads, n, n] with n at least the longest sequence, or undefined; the result goes to `context` [rows,
/// heads * padded width], zero behind the last run.
void attend(const at::Tensor& qkv, std::span<const SequenceRun> runs, const HeadShape& shape,
            const at::Tensor& bias, at::Tensor& context);

}  // namespace muster::nn
