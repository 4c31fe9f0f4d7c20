// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/phases/commands.h"
#include "phases/commands/finished_job.h"
#include "phases/report/job_report.h"

namespace muster::phases {
namespace {

const PhaseInfo& phase_of(const Registry& registry, const JobRecord& record) {
  const auto* phase = find_phase_of(registry, record.job, record.directory);
  if (phase == nullptr) {
    throw core::DataError(
        fmt::format("{} was made by '{}', which this program does not have", record.directory, record.job));
  }
  return *phase;
}

/// The config of a finished job, its paths as seen from here; nothing when it cannot be read any more (keys
/// of another version, say): the report does without what needs it.
std::optional<FinishedJob> finished(const Registry& registry, const JobRecord& record) {
  if (!record.manifest) return std::nullopt;
  try {
    return std::make_optional<FinishedJob>(registry, record.directory);
  } catch (const core::Error& error) {
    core::log::warning("the report is made without the job's settings: {}", error.what());
    return std::nullopt;
  }
}

/// The pipeline whose top directory this is, finished or not; null for the directory of a job.
const PhaseInfo* pipeline_of(const Registry& registry, const std::string& directory) {
  const auto settings = (std::filesystem::path(directory) / "resolved.yaml").string();
  if (!std::filesystem::exists(settings)) return nullptr;
  const auto* phase = find_phase(registry, config::read_job(settings));
  return phase != nullptr && phase->pipeline ? phase : nullptr;
}

report::Report make_report(const Registry& registry, const std::vector<std::string>& directories) {
  for (const auto& directory : directories) {
    const auto* pipeline = pipeline_of(registry, directory);
    if (pipeline == nullptr) continue;
    if (directories.size() == 1) return pipeline->pipeline.report({directory, nullptr});
    throw core::DataError(
        fmt::format("{} is a pipeline of several jobs; compare the folders of one stage, such as {}",
                    directory, (std::filesystem::path(directory) / "model").string()));
  }
  const auto first = read_job_record(directories.at(0));
  const auto& phase = phase_of(registry, first);
  if (directories.size() == 1) {
    const auto job = finished(registry, first);
    return job_report(phase, first, {first.directory, job ? &job->config() : nullptr});
  }
  const auto second = read_job_record(directories.at(1));
  phase_of(registry, second);
  return compared_report(phase, first, second);
}

}  // namespace

core::ExitCode report_command(const Registry& registry, const ReportOptions& options) {
  const auto html = report::to_html(make_report(registry, options.directories));
  std::string path = options.output;
  if (path.empty()) {
    path = options.directories.size() == 1
               ? (std::filesystem::path(options.directories.front()) / "report.html").string()
               : "report.html";
  }
  core::publish_text(path, html);
  fmt::print("{}\n", path);
  return core::ExitCode::kDone;
}

}  // namespace muster::phases
