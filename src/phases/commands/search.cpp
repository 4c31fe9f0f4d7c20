// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "muster/core/clock.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "muster/phases/commands.h"
#include "phases/commands/finished_job.h"
#include "phases/commands/nearest.h"
#include "phases/runner/survey.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kRowsAtATime = 65536;

void expect_embeddings(const FinishedJob& job) {
  const auto& files = job.manifest().files;
  if (std::any_of(files.begin(), files.end(), [](const auto& file) { return file.name == "embeddings.h5"; }))
    return;
  throw core::DataError(
      fmt::format("{} was made by `muster {}`, which publishes no embeddings; search looks at the output of "
                  "`muster encode`",
                  job.directory(), job.manifest().job));
}

std::vector<Hit> nearest_rows(const io::H5Reader& reader, std::span<const float> query, std::uint64_t top) {
  const auto shape = reader.shape("/embeddings");
  const std::uint64_t rows = shape.at(0);
  core::internal_check(query.size() == shape.at(1), "query and embeddings differ in length");
  NearestRows nearest(query, top);
  double seconds = 0;
  for (std::uint64_t first = 0; first < rows; first += kRowsAtATime) {
    const auto block = reader.read_rows("/embeddings", first, std::min(kRowsAtATime, rows - first));
    const double start = core::monotonic_seconds();
    nearest.add(block, first);
    seconds += core::monotonic_seconds() - start;
  }
  core::log::debug("compared with {} rows of {} in {:.1f} ms", rows, query.size(), seconds * 1e3);
  return nearest.hits();
}

}  // namespace

core::ExitCode search_command(const Registry& registry, const SearchOptions& options) {
  FinishedJob job(registry, options.directory);
  expect_embeddings(job);
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
