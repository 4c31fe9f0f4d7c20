// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "muster/io/hdf5_results.h"

namespace muster::phases {

/// A run of rows.
struct RowRange {
  std::uint64_t first = 0, count = 0;
};
/// The rows of one rank: equal runs, in the order of ranks.
RowRange rows_of_rank(std::uint64_t rows, int rank, int ranks);

/// Some rows of an embeddings.h5, scaled to unit length.
struct UnitRows {
  RowRange range;
  std::size_t dimensions = 0;
  std::vector<float> values;
  std::vector<std::uint8_t> usable;  ///< 0: the row is zero or holds NaN or infinity; its values are zeros
  std::span<const float> row(std::size_t local) const {
    return std::span(values).subspan(local * dimensions, dimensions);
  }
  std::size_t count() const { return usable.size(); }
};
UnitRows read_unit_rows(const io::H5Reader& reader, const RowRange& range);

/// Scales to unit length, in double; false, and zeros, when the length is 0 or no number.
bool scale_to_unit(std::span<float> values);

/// SHA-256 over ids and values alone: the file itself also says when and by what command it was made.
std::string embeddings_digest(const std::string& path);

}  // namespace muster::phases
