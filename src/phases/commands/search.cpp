// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "muster/core/strings.h"
#include "muster/phases/commands.h"
#include "phases/commands/finished_job.h"
#include "phases/runner/survey.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kRowsAtATime = 65536;

double dot(const float* a, const float* b, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

struct Hit {
  double score;
  std::uint64_t position;
  bool operator<(const Hit& other) const {
    return score != other.score ? score > other.score : position < other.position;
  }
};

std::vector<Hit> nearest_rows(const io::H5Reader& reader, const std::vector<float>& query,
                              std::uint64_t top) {
  const auto shape = reader.shape("/embeddings");
  const std::uint64_t rows = shape.at(0), columns = shape.at(1);
  core::internal_check(query.size() == columns, "query and embeddings differ in length");
  const double query_norm = std::sqrt(dot(query.data(), query.data(), columns));
  std::vector<Hit> hits;
  for (std::uint64_t first = 0; first < rows; first += kRowsAtATime) {
    const std::uint64_t count = std::min(kRowsAtATime, rows - first);
    const auto block = reader.read_rows("/embeddings", first, count);
    for (std::uint64_t i = 0; i < count; ++i) {
      const float* row = block.data() + i * columns;
      const double norm = std::sqrt(dot(row, row, columns)) * query_norm;
      hits.push_back({norm > 0 ? dot(row, query.data(), columns) / norm : 0, first + i});
    }
    const auto keep = std::min<std::size_t>(top, hits.size());
    std::partial_sort(hits.begin(), hits.begin() + static_cast<std::ptrdiff_t>(keep), hits.end());
    hits.resize(keep);
  }
  return hits;
}

}  // namespace

core::ExitCode search_command(const Registry& registry, const SearchOptions& options) {
  FinishedJob job(registry, options.directory);
  const io::H5Reader reader(options.directory + "/embeddings.h5");
  const auto record = job.run(options.query);
  if (record.kind != formats::RecordKind::kResult) throw core::DataError("the query has no embedding");
  std::vector<float> query(reader.shape("/embeddings").at(1));
  core::internal_check(record.payload.size() >= query.size() * sizeof(float),
                       "the record is shorter than an embedding");
  std::memcpy(query.data(), record.payload.data(), query.size() * sizeof(float));
  const auto hits = nearest_rows(reader, query, options.top);

  for (const auto& hit : hits) {
    const auto id = reader.read_strings("/ids", hit.position, 1).front();
    fmt::print("{:.4f}  {}\n", hit.score, core::printable(id));
  }
  return core::ExitCode::kDone;
}

}  // namespace muster::phases
