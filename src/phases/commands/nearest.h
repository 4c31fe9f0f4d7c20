// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace muster::phases {

struct Hit {
  float score = 0;
  std::uint64_t position = 0;
  /// Better first; equal scores in order of position.
  bool operator<(const Hit& other) const {
    return score != other.score ? score > other.score : position < other.position;
  }
};

/// Cosine of the query with every row, the best `top` kept over any number of blocks. A row or query of zeros
/// scores 0.
class NearestRows {
 public:
  NearestRows(std::span<const float> query, std::size_t top);
  /// `rows` is [count, query's length]; its first row has position `first`.
  void add(std::span<const float> rows, std::uint64_t first);
  std::vector<Hit> hits() const;  ///< best first

 private:
  std::span<const float> query_;
  float query_norm_;
  std::size_t top_;
  std::vector<Hit> heap_;  // its front is the worst one kept
};

}  // namespace muster::phases
