// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "muster/core/philox.h"
#include "muster/phases/commands.h"
#include "phases/commands/finished_job.h"
#include "phases/runner/survey.h"

namespace muster::phases {
namespace {

std::set<std::uint64_t> random_positions(std::uint64_t count, std::uint64_t rows, std::uint64_t seed) {
  std::set<std::uint64_t> positions;
  core::Philox random(seed, rows);
  while (positions.size() < std::min(count, rows)) positions.insert(random.next_below(rows));
  return positions;
}

// Recomputes random published items and compares their bytes; returns the ids that differ.
std::vector<std::string> redo(FinishedJob& job, const VerifyOptions& options) {
  const auto input = input_of(job.config());
  const Survey survey = survey_input(input, [](const formats::Reject&, const std::vector<std::string>&) {});
  if (survey.digest != job.manifest().identity.at("input.sha256")) {
    throw core::DataError("the input changed since the job ran; items cannot be recomputed");
  }
  const std::uint64_t failed = std::stoull(job.manifest().facts.at("failed"));
  if (failed > 0)
    throw core::DataError("--redo needs a job without failed items; run it with --retry-failed first");
  const auto wanted = random_positions(options.redo, survey.rows, options.seed);
  std::vector<std::string> different;
  AcceptedItems items(input, survey);
  for (formats::Item item; items.next(item);) {
    if (!wanted.contains(item.row)) continue;
    const auto record = job.run(item.text);
    auto& phase = job.phase();
    if (phase.as_published(record.payload) != phase.published(job.directory(), item.row))
      different.push_back(item.id);
  }
  return different;
}

}  // namespace

core::ExitCode verify_command(const Registry& registry, const VerifyOptions& options) {
  FinishedJob job(registry, options.directory);
  const auto problems = io::verify_manifest(options.directory, job.manifest());
  for (const auto& problem : problems) fmt::print("{}\n", problem);
  if (!problems.empty()) {
    fmt::print("{}: {} of {} files differ from the manifest\n", options.directory, problems.size(),
               job.manifest().files.size());
    return core::ExitCode::kInput;
  }
  fmt::print("{}: {} files as the manifest says\n", options.directory, job.manifest().files.size());
  if (options.redo == 0) return core::ExitCode::kDone;
  const auto different = redo(job, options);
  for (const auto& id : different) fmt::print("recomputed item '{}' differs from the published one\n", id);
  fmt::print("{}: {} items recomputed, {} differ\n", options.directory,
             std::min(options.redo, static_cast<std::uint64_t>(std::stoull(job.manifest().facts.at("rows")))),
             different.size());
  return different.empty() ? core::ExitCode::kDone : core::ExitCode::kInput;
}

}  // namespace muster::phases
