// SPDX-License-Identifier: Apache-2.0
#include "phases/teleclass/pipeline_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>

#include "muster/core/clock.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "phases/report/job_report.h"
#include "phases/teleclass/score_card_files.h"
#include "phases/teleclass/similarity_report.h"
#include "phases/train/train_report.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;
using report::Align;
using report::number_text;
using report::quantity_text;
using report::Unit;

constexpr std::array kStages{"classes", "documents", "labels", "zero_shot", "model", "infer", "scores"};
constexpr std::uint64_t kMostYamlBytes = std::uint64_t{1} << 24;

struct StageRecord {
  std::string name, directory;
  JobRecord job;
  bool holds = true;  ///< made from the present results of the stages before it
  double seconds() const {
    double sum = 0;
    for (const auto& start : job.starts) sum += start.seconds();
    return sum;
  }
  bool finished() const { return job.manifest.has_value(); }
};

std::vector<StageRecord> read_stages(const std::string& directory) {
  std::vector<StageRecord> stages;
  for (const char* name : kStages) {
    const auto folder = (fs::path(directory) / name).string();
    try {
      if (fs::exists(folder)) stages.push_back({name, folder, read_job_record(folder)});
    } catch (const std::exception& error) {
      core::log::debug("{} is left out of the report: {}", folder, error.what());  // it only just began
    }
  }
  return stages;
}

// A stage that is older than one before it may have been made from another result: nothing is shown of it
// before a walk through all of them said that it holds.
void leave_out_old(std::vector<StageRecord>& stages, const std::optional<io::Manifest>& manifest) {
  std::string newest;
  bool all_finished = true;
  for (auto& stage : stages) {
    if (manifest) {
      const auto listed = [&](const auto& file) { return file.name == stage.name + "/manifest.json"; };
      stage.holds = std::any_of(manifest->files.begin(), manifest->files.end(), listed);
      continue;
    }
    const auto finished = stage.job.fact("finished_utc");
    stage.holds = all_finished && finished >= newest;
    if (stage.name == "zero_shot") continue;  // nothing is made from it
    newest = std::max(newest, finished);
    all_finished = all_finished && stage.finished();
  }
}

std::string state_of(const StageRecord& stage) {
  if (!stage.finished()) return stage.job.starts.empty() ? "not finished" : stage.job.starts.back().state();
  if (!stage.holds) return "older than what it is made from";
  return stage.job.fact("exit_code") == "4" ? "done, some items failed or were rejected" : "done";
}

report::Section stages_section(const std::vector<StageRecord>& stages) {
  report::Table table;
  table.columns = {{"stage"},
                   {"job"},
                   {"state"},
                   {"documents", Align::kRight},
                   {"time", Align::kRight},
                   {"computing", Align::kRight},
                   {"a second", Align::kRight},
                   {"ranks", Align::kRight},
                   {"starts", Align::kRight}};
  report::Bars bars{.title = "wall time of each stage",
                    .unit = Unit::kSeconds,
                    .parts = {"time"},
                    .bars = {},
                    .mark = std::nullopt};
  for (const auto& stage : stages) {
    double computing = 0;
    for (const auto& start : stage.job.starts) computing += start.computing();
    const auto rate = stage.job.starts.empty() ? 0 : rate_of(stage.job);
    table.rows.push_back(
        {stage.name, stage.job.job, state_of(stage), number_text(static_cast<double>(stage.job.rows())),
         quantity_text(stage.seconds(), Unit::kSeconds), quantity_text(computing, Unit::kSeconds),
         rate > 0 ? number_text(rate) : "\u2013",
         stage.job.starts.empty() ? "\u2013" : std::to_string(stage.job.starts.back().ranks.size()),
         std::to_string(stage.job.starts.size())});
    bars.bars.push_back({.label = stage.name, .parts = {stage.seconds()}, .hint = ""});
  }
  table.note = "Each stage has a report.html of its own in its folder.";
  return {.title = "Stages", .blocks = {std::move(table), std::move(bars)}};
}

report::Section memory_of_ranks(const std::vector<StageRecord>& stages) {
  report::Section section{
      .title = "Peak memory of each rank, stage by stage", .blocks = {}, .fold = report::Fold::kFolded};
  report::Table table;
  table.columns = {
      {"stage"}, {"rank", Align::kRight}, {"peak memory", Align::kRight}, {"predicted", Align::kRight}};
  for (const auto& stage : stages) {
    if (stage.job.starts.empty()) continue;
    for (const auto& rank : stage.job.starts.back().ranks)
      table.rows.push_back(
          {stage.name, std::to_string(rank.rank), quantity_text(rank.peak_memory, Unit::kBytes),
           rank.predicted_memory > 0 ? quantity_text(rank.predicted_memory, Unit::kBytes) : "\u2013"});
  }
  table.note = "One process runs all stages: a peak counts for the stages behind it, too.";
  section.blocks.emplace_back(std::move(table));
  return section;
}

const StageRecord* find_finished(const std::vector<StageRecord>& stages, const std::string& name) {
  const auto found = std::find_if(stages.begin(), stages.end(),
                                  [&](const auto& s) { return s.name == name && s.finished() && s.holds; });
  return found == stages.end() ? nullptr : &*found;
}

// What the pages of the stages say first, where these are finished.
template <class Sections>
void add_sections(const std::vector<StageRecord>& stages, const std::string& name, Sections sections_of,
                  report::Report& out) {
  const auto* stage = find_finished(stages, name);
  if (stage == nullptr) return;
  try {
    for (auto& section : sections_of(ReportSource{stage->directory, nullptr}))
      out.sections.push_back(std::move(section));
  } catch (const std::exception& error) {
    core::log::warning("a part of report.html is left out: {}", error.what());
  }
}

std::vector<report::Tile> tiles_of(const std::vector<StageRecord>& stages) {
  std::vector<report::Tile> tiles;
  if (const auto* scores = find_finished(stages, "scores"); scores != nullptr) {
    const auto rows = read_table(scores->directory + "/scores.csv", 3);
    const auto tile = [&](const std::string& method, const std::string& title) {
      for (const auto& row : rows)
        if (row[0] == method)
          tiles.push_back({title, row[1].substr(0, 6), fmt::format("Example-F1 +- {}", row[2].substr(0, 6)),
                           report::Tone::kPlain});
    };
    tile("classifier", "classifier");
    tile("zero_shot", "nearest class texts");
    tile("rounds", "pseudo-labels");
  }
  double seconds = 0;
  for (const auto& stage : stages) seconds += stage.seconds();
  tiles.push_back({"time", core::human_duration(seconds), "of all stages", report::Tone::kPlain});
  if (const auto* labels = find_finished(stages, "labels"); labels != nullptr) {
    tiles.push_back({"pseudo-labelled", labels->job.fact("labelled"),
                     fmt::format("of {} documents", labels->job.fact("documents")), report::Tone::kPlain});
    tiles.push_back({"starved classes", labels->job.fact("starved_classes"),
                     fmt::format("of {} classes", labels->job.fact("classes")), report::Tone::kPlain});
  }
  return tiles;
}

}  // namespace

report::Report teleclass_report(const ReportSource& source) {
  auto stages = read_stages(source.directory);
  const auto manifest = io::read_manifest(source.directory);
  leave_out_old(stages, manifest);
  report::Report out;
  out.title = fmt::format("teleclass: {}", source.directory);
  out.subtitle = manifest ? fmt::format("Finished {} up to the part {}, with exit code {}.",
                                        manifest->facts.at("finished_utc"), manifest->facts.at("until"),
                                        manifest->facts.at("exit_code"))
                          : "Not finished. The same command goes on.";
  out.tone = manifest
                 ? (manifest->facts.at("exit_code") == "0" ? report::Tone::kGood : report::Tone::kWarning)
                 : report::Tone::kWarning;
  out.tiles = tiles_of(stages);
  add_sections(stages, "scores", score_sections, out);
  out.sections.push_back(stages_section(stages));
  add_sections(stages, "model", train_sections, out);
  add_sections(stages, "labels", similarity_sections, out);
  out.sections.push_back(memory_of_ranks(stages));
  if (manifest) {
    report::Facts facts;
    facts.rows.emplace_back("command", manifest->command);
    for (const auto& [name, value] : manifest->facts) facts.rows.emplace_back(name, value);
    out.sections.push_back({.title = "What was run", .blocks = {std::move(facts)}});
  }
  const auto settings = fs::path(source.directory) / "resolved.yaml";
  if (fs::exists(settings))
    out.sections.push_back(
        {.title = "All settings (resolved.yaml)",
         .blocks = {report::Preformatted{core::read_file(settings.string(), kMostYamlBytes)}},
         .fold = report::Fold::kFolded});
  return out;
}

}  // namespace muster::phases
