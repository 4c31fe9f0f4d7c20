// SPDX-License-Identifier: Apache-2.0
#include "phases/teleclass/unit_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "muster/core/digest.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kBlockValues = std::uint64_t{1} << 22;

std::uint64_t rows_a_block(std::uint64_t columns) {
  return std::max<std::uint64_t>(kBlockValues / std::max<std::uint64_t>(columns, 1), 1);
}

}  // namespace

RowRange rows_of_rank(std::uint64_t rows, int rank, int ranks) {
  const auto at = [&](int i) {
    return rows * static_cast<std::uint64_t>(i) / static_cast<std::uint64_t>(ranks);
  };
  return {at(rank), at(rank + 1) - at(rank)};
}

bool scale_to_unit(std::span<float> values) {
  double square = 0;
  for (const float value : values) square += static_cast<double>(value) * value;
  const double length = std::sqrt(square);
  if (!std::isfinite(length) || length == 0) {
    std::fill(values.begin(), values.end(), 0.0f);
    return false;
  }
  for (float& value : values) value = static_cast<float>(value / length);
  return true;
}

UnitRows read_unit_rows(const io::H5Reader& reader, const RowRange& range) {
  UnitRows rows{.range = range, .dimensions = reader.shape("/embeddings").at(1), .values = {}, .usable = {}};
  rows.values.reserve(range.count * rows.dimensions);
  const std::uint64_t block = rows_a_block(rows.dimensions);
  for (std::uint64_t row = 0; row < range.count; row += block) {
    const auto read = reader.read_rows("/embeddings", range.first + row, std::min(block, range.count - row));
    rows.values.insert(rows.values.end(), read.begin(), read.end());
  }
  rows.usable.resize(range.count);
  for (std::size_t row = 0; row < range.count; ++row)
    rows.usable[row] = scale_to_unit(std::span(rows.values).subspan(row * rows.dimensions, rows.dimensions));
  return rows;
}

std::string embeddings_digest(const std::string& path) {
  const io::H5Reader reader(path);
  const auto shape = reader.shape("/embeddings");
  const std::uint64_t rows = shape.at(0), block = rows_a_block(shape.at(1));
  core::Sha256 sha;
  sha.update(fmt::format("{} {}\n", rows, shape.at(1)));
  for (std::uint64_t first = 0; first < rows; first += block) {
    const std::uint64_t count = std::min(block, rows - first);
    for (const auto& id : reader.read_strings("/ids", first, count))
      sha.update(fmt::format("{}:{}", id.size(), id));
    const auto values = reader.read_rows("/embeddings", first, count);
    sha.update(std::as_bytes(std::span(values)));
  }
  return sha.finish_hex();
}

}  // namespace muster::phases
