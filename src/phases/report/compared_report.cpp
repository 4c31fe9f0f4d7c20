// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "muster/core/clock.h"
#include "muster/core/strings.h"
#include "phases/report/job_report.h"

namespace muster::phases {
namespace {

using report::Align;
using report::number_text;
using report::quantity_text;
using report::Unit;

constexpr std::size_t kLinesCompared = 200;

using Both = std::array<const JobRecord*, 2>;

double whole_time(const JobRecord& record) {
  double sum = 0;
  for (const auto& start : record.starts) sum += start.seconds();
  return sum;
}

double peak_memory(const JobRecord& record) {
  double peak = 0;
  for (const auto& start : record.starts) {
    for (const auto& rank : start.ranks) peak = std::max(peak, rank.peak_memory);
  }
  return peak;
}

double busy_share(const JobRecord& record) {
  double busy = 0, possible = 0;
  for (const auto& start : record.starts) {
    busy += start.busy();
    possible += start.computing() * start.workers();
  }
  return possible > 0 ? busy / possible : 0;
}

double last_balance(const JobRecord& record) {
  return record.starts.empty() ? 1 : balance_of(record.starts.back());
}

double last_ranks(const JobRecord& record) {
  return record.starts.empty() ? 0 : static_cast<double>(record.starts.back().ranks.size());
}

double last_workers(const JobRecord& record) {
  return record.starts.empty() ? 0 : static_cast<double>(record.starts.back().workers());
}

report::Table figures(const Both& jobs, const PhaseInfo& phase) {
  report::Table table;
  table.columns = {{"figure"},
                   {jobs[0]->directory, Align::kRight},
                   {jobs[1]->directory, Align::kRight},
                   {"second / first", Align::kRight}};
  const auto row = [&](const std::string& name, double (*of)(const JobRecord&), Unit unit) {
    const double first = of(*jobs[0]), second = of(*jobs[1]);
    table.rows.push_back({name, quantity_text(first, unit), quantity_text(second, unit),
                          first > 0 ? fmt::format("{:.3f}", second / first) : "\u2013"});
  };
  row(
      phase.item + " with or without a result",
      [](const JobRecord& r) { return static_cast<double>(r.items_done()); }, Unit::kNumber);
  row(phase.item + " a second", rate_of, Unit::kNumber);
  row("time of the whole job", whole_time, Unit::kSeconds);
  row(
      "starts", [](const JobRecord& r) { return static_cast<double>(r.starts.size()); }, Unit::kNumber);
  row("ranks (last start)", last_ranks, Unit::kNumber);
  row("workers (last start)", last_workers, Unit::kNumber);
  row("balance (last start)", last_balance, Unit::kNumber);
  row("workers busy while computing", busy_share, Unit::kNumber);
  row("peak memory of a rank", peak_memory, Unit::kBytes);
  row(
      "failed", [](const JobRecord& r) { return static_cast<double>(r.failures.count); }, Unit::kNumber);
  row(
      "rejected", [](const JobRecord& r) { return static_cast<double>(r.rejects.count); }, Unit::kNumber);
  return table;
}

/// What differs in what both jobs are: identity and facts of their manifests.
report::Table differences(const Both& jobs) {
  report::Table table;
  table.columns = {{"what differs"}, {jobs[0]->directory}, {jobs[1]->directory}};
  std::array<std::map<std::string, std::string>, 2> known;
  for (std::size_t i = 0; i < 2; ++i) {
    if (!jobs[i]->manifest) continue;
    known[i] = jobs[i]->manifest->identity;
    known[i].insert(jobs[i]->manifest->facts.begin(), jobs[i]->manifest->facts.end());
    known[i]["command"] = jobs[i]->manifest->command;
    for (const auto& file : jobs[i]->manifest->files) known[i]["SHA-256 of " + file.name] = file.sha256;
  }
  std::set<std::string> names;
  for (const auto& facts : known) {
    for (const auto& [name, value] : facts) names.insert(name);
  }
  for (const auto& name : names) {
    const auto text = [&](std::size_t i) {
      const auto found = known[i].find(name);
      return found == known[i].end() ? std::string("\u2013") : found->second;
    };
    if (text(0) != text(1)) table.rows.push_back({name, text(0), text(1)});
  }
  if (table.rows.empty()) table.note = "Nothing.";
  return table;
}

report::Table setting_differences(const Both& jobs) {
  report::Table table;
  table.columns = {{"only in " + jobs[0]->directory}, {"only in " + jobs[1]->directory}};
  const auto first = core::split(jobs[0]->resolved, '\n'), second = core::split(jobs[1]->resolved, '\n');
  // Both files list the same keys in the same order when the same program wrote them.
  const bool alike = first.size() == second.size();
  for (std::size_t i = 0; alike && i < first.size() && table.rows.size() < kLinesCompared; ++i) {
    if (first[i] != second[i])
      table.rows.push_back({std::string(core::trim(first[i])), std::string(core::trim(second[i]))});
  }
  if (table.rows.empty())
    table.note = alike ? "Nothing." : "The settings were written by different versions.";
  return table;
}

report::Section time_section(const Both& jobs) {
  report::Section section{.title = "Where the time went", .blocks = {}};
  report::Bars bars{.title = "a worker's time, averaged over the ranks of the last start",
                    .unit = Unit::kSeconds,
                    .parts = time_parts()};
  for (const auto* job : jobs) {
    if (job->starts.empty()) continue;
    const auto& ranks = job->starts.back().ranks;
    report::Bar mean{
        .label = job->directory, .parts = std::vector<double>(bars.parts.size(), 0.0), .hint = {}};
    for (const auto& rank : ranks) {
      const auto bar = time_bar(rank);
      for (std::size_t p = 0; p < mean.parts.size(); ++p)
        mean.parts[p] += bar.parts[p] / static_cast<double>(ranks.size());
    }
    bars.bars.push_back(std::move(mean));
  }
  section.blocks.emplace_back(std::move(bars));
  return section;
}

}  // namespace

report::Report compared_report(const PhaseInfo& phase, const JobRecord& first, const JobRecord& second) {
  const Both jobs{&first, &second};
  report::Report out;
  out.title = fmt::format("{}: {} and {}", first.job, first.directory, second.directory);
  out.subtitle = "Two jobs beside each other.";
  out.sections.push_back({.title = "Figures", .blocks = {figures(jobs, phase)}});
  report::Curves curves{.title = phase.unit + " a second, all ranks; the time between starts is left out",
                        .y_label = phase.unit + " / s",
                        .series = {}};
  for (const auto* job : jobs)
    curves.series.push_back(throughput_series(job->starts, job->directory, &WorkSpan::length));
  out.sections.push_back({.title = "Throughput", .blocks = {std::move(curves)}});
  out.sections.push_back(time_section(jobs));
  report::Section timelines{.title = "Who did what when", .blocks = {}};
  for (const auto* job : jobs) {
    if (job->starts.empty()) continue;
    auto timeline = timeline_of(job->starts.back(), phase);
    timeline.title = fmt::format("{}, last start, {}", job->directory, job->starts.back().utc);
    timelines.blocks.emplace_back(std::move(timeline));
  }
  out.sections.push_back(std::move(timelines));
  out.sections.push_back({.title = "What differs", .blocks = {differences(jobs), setting_differences(jobs)}});
  return out;
}

}  // namespace muster::phases
