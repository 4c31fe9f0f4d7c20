// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
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
  auto& phase = job.phase();  // says so when there are no items
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
    if (phase.as_published(record.payload) != phase.published(job.directory(), item.row))
      different.push_back(item.id);
  }
  return different;
}

struct Verified {
  std::uint64_t files = 0, problems = 0;
};

// The manifest of a pipeline lists those of its stages, which vouch for their own folders.
Verified verify_folder(const std::string& directory, const io::Manifest& manifest) {
  const auto problems = io::verify_manifest(directory, manifest);
  for (const auto& problem : problems) fmt::print("{}\n", problem);
  Verified verified{.files = manifest.files.size(), .problems = problems.size()};
  for (const auto& file : manifest.files) {
    const std::filesystem::path path(file.name);
    if (path.filename() != "manifest.json") continue;
    const auto folder = (std::filesystem::path(directory) / path).parent_path().string();
    const auto inner = io::read_manifest(folder);
    if (!inner) continue;  // listed above as missing
    const auto [files, bad] = verify_folder(folder, *inner);
    verified.files += files;
    verified.problems += bad;
  }
  return verified;
}

}  // namespace

core::ExitCode verify_command(const Registry& registry, const VerifyOptions& options) {
  FinishedJob job(registry, options.directory);
  const auto verified = verify_folder(options.directory, job.manifest());
  if (verified.problems > 0) {
    fmt::print("{}: {} of {} files differ from the manifest\n", options.directory, verified.problems,
               verified.files);
    return core::ExitCode::kInput;
  }
  fmt::print("{}: {} files as the manifest says\n", options.directory, verified.files);
  if (options.redo == 0) return core::ExitCode::kDone;
  const auto different = redo(job, options);
  for (const auto& id : different) fmt::print("recomputed item '{}' differs from the published one\n", id);
  fmt::print("{}: {} items recomputed, {} differ\n", options.directory,
             std::min(options.redo, static_cast<std::uint64_t>(std::stoull(job.manifest().facts.at("rows")))),
             different.size());
  return different.empty() ? core::ExitCode::kDone : core::ExitCode::kInput;
}

}  // namespace muster::phases
