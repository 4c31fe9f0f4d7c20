// SPDX-License-Identifier: Apache-2.0
// The pictures of report.html, from what the ranks wrote down.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "phases/report/job_report.h"

namespace muster::phases {
namespace {

constexpr std::size_t kThroughputBins = 120;

/// Indices into the kinds of a timeline and the parts of a time bar, so that a colour means the same in both.
enum Kind : std::uint8_t {
  kComputing,
  kLoading,
  kPublishing,
  kStarting,
  kPreparing,
  kInput,
  kOtherRanks,
  kNoWork,
  kSaving,
  kRest,
  kKinds
};

std::string span_hint(const WorkSpan& span, const PhaseInfo& phase) {
  return fmt::format("{} {}, {} {} in {} micro-batch{}, {}",
                     report::number_text(static_cast<double>(span.items)), phase.item,
                     report::number_text(static_cast<double>(span.length)), phase.unit, span.batches,
                     span.batches == 1 ? "" : "es", report::quantity_text(span.busy, report::Unit::kSeconds));
}

void add_stage(const RankActivity& rank, Stage stage, Kind kind, report::Lane& lane) {
  const auto& [begin, end] = rank.stages[static_cast<std::size_t>(stage)];
  if (!(end > begin)) return;
  static constexpr const char* kNames[] = {"starting", "loading", "computing", "publishing"};
  lane.spans.push_back(
      {.begin = begin,
       .end = end,
       .share = 1,
       .hint = fmt::format("{}: {} {}", rank_name(rank), kNames[static_cast<std::size_t>(stage)],
                           report::quantity_text(end - begin, report::Unit::kSeconds)),
       .kind = kind});
}

double max_of(const DoublingHistogram& histogram) {
  const auto& counts = histogram.counts();
  for (std::size_t bin = counts.size(); bin > 0; --bin) {
    if (counts[bin - 1] > 0) return static_cast<double>(bin);
  }
  return 0;
}

}  // namespace

std::string rank_name(const RankActivity& rank) {
  return fmt::format("rank {}", rank.rank);
}

report::Timeline timeline_of(const StartRecord& start, const PhaseInfo& phase) {
  report::Timeline timeline;
  timeline.kinds = {"computing", "loading the model", "publishing", "starting, reading the input"};
  timeline.seconds = start.seconds();
  for (const auto& rank : start.ranks) {
    for (std::size_t worker = 0; worker < std::max<std::size_t>(rank.lanes.size(), 1); ++worker) {
      report::Lane lane;
      lane.group = rank_name(rank);
      lane.label = rank.lanes.size() > 1 ? fmt::format("{} worker {}", lane.group, worker) : lane.group;
      add_stage(rank, Stage::kStarting, kStarting, lane);
      add_stage(rank, Stage::kLoading, kLoading, lane);
      if (worker < rank.lanes.size()) {
        for (const auto& span : rank.lanes[worker]) {
          const double time = std::max(span.end - span.begin, 1e-9);
          lane.spans.push_back({.begin = span.begin,
                                .end = span.end,
                                .share = std::min(span.busy / time, 1.0),
                                .hint = fmt::format("{}: {}", lane.label, span_hint(span, phase)),
                                .kind = kComputing});
        }
      }
      add_stage(rank, Stage::kPublishing, kPublishing, lane);
      timeline.lanes.push_back(std::move(lane));
    }
  }
  return timeline;
}

report::Series throughput_series(const std::vector<StartRecord>& starts, const std::string& name,
                                 std::uint64_t WorkSpan::*what) {
  double whole = 0;
  for (const auto& start : starts) whole += start.seconds();
  if (!(whole > 0)) return {name, {}};
  const double width = whole / kThroughputBins;
  std::vector<double> items(kThroughputBins, 0.0);
  const auto bin_of = [&](double t) {
    return std::min(static_cast<std::size_t>(std::max(t, 0.0) / width), kThroughputBins - 1);
  };
  double before = 0;
  for (const auto& start : starts) {
    for (const auto& rank : start.ranks) {
      for (const auto& lane : rank.lanes) {
        for (const auto& span : lane) {
          const double begin = before + span.begin, end = std::max(before + span.end, begin + 1e-9);
          for (auto bin = bin_of(begin); bin <= bin_of(end); ++bin) {
            const double left = static_cast<double>(bin) * width;
            const double covered = std::min(end, left + width) - std::max(begin, left);
            items[bin] += static_cast<double>(span.*what) * std::max(covered, 0.0) / (end - begin);
          }
        }
      }
    }
    before += start.seconds();
  }
  report::Series series{name, {{0, items.front() / width}}};
  for (std::size_t bin = 0; bin < kThroughputBins; ++bin)
    series.points.push_back({(static_cast<double>(bin) + 0.5) * width, items[bin] / width});
  series.points.push_back({whole, items.back() / width});
  return series;
}

report::Curves throughput_of(const std::vector<StartRecord>& starts, const std::string& name,
                             std::uint64_t WorkSpan::*what) {
  report::Curves curves;
  curves.title = fmt::format("{} a second, all ranks{}", name,
                             starts.size() > 1 ? "; the time between two starts is left out" : "");
  curves.y_label = name + " / s";
  curves.series.push_back(throughput_series(starts, name, what));
  double before = 0;
  for (std::size_t i = 0; starts.size() > 1 && i < starts.size(); ++i) {
    if (starts.size() <= 12) curves.marks.push_back({fmt::format("start {}", i + 1), before});
    before += starts[i].seconds();
  }
  return curves;
}

std::vector<std::string> time_parts() {
  return {"computing",
          "loading the model",
          "publishing",
          "starting, reading the input",
          "waiting: preparing",
          "waiting: input",
          "waiting: other ranks",
          "no work left",
          "saving",
          "rest"};
}

report::Bar time_bar(const RankActivity& rank) {
  const double workers = std::max(rank.workers, 1);
  const auto wait = [&](WaitsFor what) { return rank.waits[static_cast<std::size_t>(what)] / workers; };
  std::vector<double> parts(kKinds, 0.0);
  parts[kComputing] = rank.busy / workers;
  parts[kLoading] = rank.stage_seconds(Stage::kLoading);
  parts[kPublishing] = rank.stage_seconds(Stage::kPublishing);
  parts[kStarting] = rank.stage_seconds(Stage::kStarting);
  parts[kPreparing] = wait(WaitsFor::kPreparing);
  parts[kInput] = wait(WaitsFor::kInput);
  parts[kOtherRanks] = wait(WaitsFor::kRanks);
  parts[kNoWork] = wait(WaitsFor::kEnd);
  parts[kSaving] = rank.saving / workers;
  parts[kRest] = std::max(rank.seconds - std::accumulate(parts.begin(), parts.end(), 0.0), 0.0);
  return {.label = rank_name(rank), .parts = std::move(parts), .hint = rank.host};
}

double balance_of(const StartRecord& start) {
  std::vector<double> busy;
  for (const auto& rank : start.ranks) {
    if (rank.workers > 0) busy.push_back(rank.busy / rank.workers);  // the others help one of these
  }
  return plan::balance(busy);
}

double rate_of(const JobRecord& record) {
  double items = 0, seconds = 0;
  for (const auto& start : record.starts) {
    items += static_cast<double>(start.items());
    seconds += start.computing();
  }
  return seconds > 0 ? items / seconds : 0;
}

report::Section lengths_section(const JobRecord& record, const PhaseInfo& phase) {
  DoublingHistogram all, truncated;
  std::vector<double> fill;
  std::uint64_t length = 0, tiled = 0, items = 0, batches = 0, cut = 0, budget = 0;
  for (const auto& start : record.starts) {
    for (const auto& rank : start.ranks) {
      all.add(rank.lengths);
      truncated.add(rank.truncated_lengths);
      fill.resize(std::max(fill.size(), rank.fill.size()), 0.0);
      for (std::size_t i = 0; i < rank.fill.size(); ++i) fill[i] += static_cast<double>(rank.fill[i]);
      length += rank.length;
      tiled += rank.tiled_length;
      items += rank.items;
      batches += rank.batches;
      cut += rank.truncated;
      budget = std::max(budget, rank.batch_budget);
    }
  }
  report::Section section{.title = "Lengths and micro-batches", .blocks = {}};
  if (items == 0) {
    section.blocks.emplace_back(report::Paragraph{"Nothing was computed."});
    return section;
  }
  truncated.widen(all.width());
  std::vector<double> whole, short_ones;
  const auto bins = static_cast<std::size_t>(max_of(all));
  for (std::size_t bin = 0; bin < bins; ++bin) {
    short_ones.push_back(static_cast<double>(truncated.counts()[bin]));
    whole.push_back(static_cast<double>(all.counts()[bin]) - short_ones.back());
  }
  report::Histogram lengths{
      .title = fmt::format("{} by length: {} {}, {} on average, {} truncated", phase.item,
                           report::number_text(static_cast<double>(length)), phase.unit,
                           report::number_text(static_cast<double>(length) / static_cast<double>(items)),
                           report::number_text(static_cast<double>(cut))),
      .x_label = phase.unit,
      .y_label = phase.item,
      .width = static_cast<double>(all.width()),
      .parts = {"whole"},
      .counts = {whole}};
  if (cut > 0) {
    lengths.parts.emplace_back("truncated");
    lengths.counts.push_back(short_ones);
  }
  section.blocks.emplace_back(std::move(lengths));
  const double share = tiled > 0 ? 100 * static_cast<double>(length) / static_cast<double>(tiled) : 100;
  const std::string tiles =
      share < 99.995 ? fmt::format("; {:.1f} % of the rows of their tiles are {}", share, phase.unit) : "";
  if (budget > 0) {
    const double mean = static_cast<double>(length) / static_cast<double>(batches * budget);
    section.blocks.emplace_back(report::Histogram{
        .title = fmt::format("{} micro-batches of at most {} {}, filled to {:.1f} % on average{}",
                             report::number_text(static_cast<double>(batches)),
                             report::number_text(static_cast<double>(budget)), phase.unit, 100 * mean, tiles),
        .x_label = "% full",
        .y_label = "micro-batches",
        .width = 100.0 / static_cast<double>(fill.size()),
        .parts = {"micro-batches"},
        .counts = {fill}});
  } else {
    section.blocks.emplace_back(report::Paragraph{
        fmt::format("{} micro-batches{}.", report::number_text(static_cast<double>(batches)), tiles)});
  }
  return section;
}

report::Section memory_section(const JobRecord& record) {
  report::Section section{.title = "Memory", .blocks = {}};
  report::Bars bars{
      .title = "peak memory of each rank on its host", .unit = report::Unit::kBytes, .parts = {"measured"}};
  double predicted = 0;
  for (const auto& rank : record.starts.back().ranks) {
    bars.bars.push_back({rank_name(rank), {rank.peak_memory}, rank.host});
    predicted = std::max(predicted, rank.predicted_memory);
  }
  if (predicted > 0) bars.mark = report::Mark{"predicted", predicted};
  section.blocks.emplace_back(std::move(bars));
  return section;
}

}  // namespace muster::phases
