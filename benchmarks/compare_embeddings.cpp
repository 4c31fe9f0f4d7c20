// SPDX-License-Identifier: Apache-2.0
// Prints as one line of JSON how far two embeddings.h5 of the same documents are apart, for scripts on
// machines where nothing else reads HDF5.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>

#include "muster/core/error.h"
#include "muster/io/hdf5_results.h"

namespace {

using muster::core::DataError;
using muster::io::H5Reader;

constexpr std::uint64_t kRowsAtOnce = 4096;

struct Distance {
  std::uint64_t rows = 0, equal_rows = 0;
  double smallest_cosine = 1, cosine_sum = 0, largest_difference = 0;

  void add(std::span<const float> a, std::span<const float> b) {
    double ab = 0, aa = 0, bb = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      ab += static_cast<double>(a[i]) * b[i];
      aa += static_cast<double>(a[i]) * a[i];
      bb += static_cast<double>(b[i]) * b[i];
      largest_difference = std::max(largest_difference, std::abs(static_cast<double>(a[i]) - b[i]));
    }
    const bool equal = std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
    double cosine = equal ? 1 : ab / std::sqrt(aa * bb);
    if (!std::isfinite(cosine)) cosine = -1;  // as far as can be
    ++rows;
    equal_rows += equal;
    smallest_cosine = std::min(smallest_cosine, cosine);
    cosine_sum += cosine;
  }
};

Distance compare(const H5Reader& a, const H5Reader& b) {
  const auto shape = a.shape("/embeddings");
  if (b.shape("/embeddings") != shape) throw DataError("the two files have different shapes");
  const std::uint64_t rows = shape.at(0), width = shape.at(1);
  if (a.read_strings("/ids", 0, rows) != b.read_strings("/ids", 0, rows))
    throw DataError("the two files are not of the same documents in the same order");
  Distance distance;
  for (std::uint64_t first = 0; first < rows; first += kRowsAtOnce) {
    const std::uint64_t count = std::min(kRowsAtOnce, rows - first);
    const auto left = a.read_rows("/embeddings", first, count),
               right = b.read_rows("/embeddings", first, count);
    for (std::uint64_t row = 0; row < count; ++row)
      distance.add(std::span(left).subspan(row * width, width), std::span(right).subspan(row * width, width));
  }
  return distance;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: compare_embeddings one/embeddings.h5 other/embeddings.h5\n");
    return 2;
  }
  try {
    const Distance distance = compare(H5Reader(argv[1]), H5Reader(argv[2]));
    fmt::print(
        R"({{"rows": {}, "equal_rows": {}, "smallest_cosine": {:.9f}, "mean_cosine": {:.9f}, "largest_difference": {:.3g}}})"
        "\n",
        distance.rows, distance.equal_rows, distance.smallest_cosine,
        distance.rows == 0 ? 1.0 : distance.cosine_sum / static_cast<double>(distance.rows),
        distance.largest_difference);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "compare_embeddings: {}\n", error.what());
    return 3;
  }
}
