// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

namespace muster::nn {

struct ComputeTarget;

/// Linear layers run on this many rows at a time, always. The bytes of a row depend on the row count of the
/// matrix product, but not on the other rows nor on its place among them; so activations are padded to whole
/// tiles. Whole tiles also give elementwise kernels a length without a vector tail, whose place would
/// otherwise matter.
inline constexpr std::int64_t kTileRows = 256;

constexpr std::int64_t tiles_of(std::int64_t rows) {
  return (rows + kTileRows - 1) / kTileRows;
}
constexpr std::int64_t padded_rows(std::int64_t rows) {
  return tiles_of(rows) * kTileRows;
}

/// Whole tiles, or `rows` as they are where a row's bytes do not depend on the row count (our own CPU
/// kernels).
std::int64_t padded_rows(std::int64_t rows, const ComputeTarget& target);

}  // namespace muster::nn
