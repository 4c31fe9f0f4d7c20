// SPDX-License-Identifier: Apache-2.0
#include "phases/report/job_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/log.h"

namespace muster::phases {
namespace {

using report::Align;
using report::number_text;
using report::quantity_text;
using report::Tone;
using report::Unit;

constexpr std::size_t kTimelines = 6;  // of a job that was started more often, the last ones
constexpr std::size_t kRanksListed = 40;
constexpr std::size_t kKindsListed = 20;
constexpr std::size_t kFilesListed = 100;
constexpr std::size_t kReasonBytes = 300;

std::string count(std::uint64_t value) {
  return number_text(static_cast<double>(value));
}

std::string seconds(double value) {
  return quantity_text(value, Unit::kSeconds);
}

std::string bytes(double value) {
  return quantity_text(value, Unit::kBytes);
}

std::string percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

struct State {
  std::string text;
  Tone tone = Tone::kPlain;
};

State state_of(const JobRecord& record) {
  if (record.manifest) {
    const bool some_missing = record.fact("exit_code") == "4";
    return {
        fmt::format("Finished {} with exit code {}{}.", record.fact("finished_utc"), record.fact("exit_code"),
                    some_missing ? ": done, but some items failed or were rejected" : ""),
        some_missing ? Tone::kWarning : Tone::kGood};
  }
  const auto& last = record.starts.back();
  std::string seen;
  for (const auto& rank : last.ranks) seen = std::max(seen, rank.seen_utc);
  return {fmt::format("Not finished. Start {} of {}: {} (last written {}). The same command goes on.",
                      record.starts.size(), record.starts.size(), last.state(), seen),
          last.state() == "stopped" ? Tone::kWarning : Tone::kBad};
}

std::string hosts_of(const StartRecord& start) {
  std::set<std::string> hosts;
  for (const auto& rank : start.ranks) hosts.insert(rank.host);
  return hosts.size() == 1 ? *hosts.begin() : fmt::format("{} hosts", hosts.size());
}

double peak_of(const StartRecord& start) {
  double peak = 0;
  for (const auto& rank : start.ranks) peak = std::max(peak, rank.peak_memory);
  return peak;
}

void add_start_tiles(const JobRecord& record, const PhaseInfo& phase, std::vector<report::Tile>& tiles) {
  const auto& last = record.starts.back();
  double computing = 0, length = 0;
  for (const auto& start : record.starts) {
    computing += start.computing();
    length += static_cast<double>(start.length());
  }
  tiles.push_back({phase.item + " a second", number_text(rate_of(record)),
                   fmt::format("{} {} a second, while computing",
                               computing > 0 ? number_text(length / computing) : "0", phase.unit)});
  double whole = 0;
  for (const auto& start : record.starts) whole += start.seconds();
  tiles.push_back({"time", core::human_duration(whole),
                   record.starts.size() > 1 ? fmt::format("{} starts, pauses left out", record.starts.size())
                                            : "of the whole job"});
  tiles.push_back({"ranks x workers", fmt::format("{} x {}", last.ranks.size(), last.ranks.front().workers),
                   fmt::format("on {}", hosts_of(last))});
  tiles.push_back({"balance", fmt::format("{:.3f}", balance_of(last)), "busiest rank / mean"});
  const double possible = last.computing() * last.workers();
  tiles.push_back(
      {"workers busy", percent(possible > 0 ? std::min(last.busy() / possible, 1.0) : 0), "while computing"});
  tiles.push_back({"peak memory", bytes(peak_of(last)),
                   last.ranks.front().predicted_memory > 0
                       ? fmt::format("a rank; {} predicted", bytes(last.ranks.front().predicted_memory))
                       : "of a rank"});
}

std::vector<report::Tile> tiles_of(const JobRecord& record, const PhaseInfo& phase) {
  std::vector<report::Tile> tiles;
  tiles.push_back({phase.item, count(record.items_done()), fmt::format("of {}", count(record.rows()))});
  if (!record.starts.empty()) add_start_tiles(record, phase, tiles);
  const auto mishap_tile = [&](const std::string& name, const Mishaps& mishaps, const std::string& note) {
    tiles.push_back({name, count(mishaps.count), note, mishaps.count > 0 ? Tone::kBad : Tone::kPlain});
  };
  mishap_tile("failed", record.failures, "items without a result");
  mishap_tile("rejected", record.rejects, "rows that are no items");
  return tiles;
}

report::Table starts_table(const JobRecord& record, const PhaseInfo& phase) {
  report::Table table;
  table.columns = {{"start"},
                   {"begun (UTC)"},
                   {"ranks", Align::kRight},
                   {"time", Align::kRight},
                   {phase.item, Align::kRight},
                   {"a second", Align::kRight},
                   {"balance", Align::kRight},
                   {"end"}};
  for (std::size_t i = 0; i < record.starts.size(); ++i) {
    const auto& start = record.starts[i];
    const double computing = start.computing();
    table.rows.push_back({fmt::format("{}", i + 1), start.utc, fmt::format("{}", start.ranks.size()),
                          seconds(start.seconds()), count(start.items()),
                          computing > 0 ? number_text(static_cast<double>(start.items()) / computing) : "0",
                          fmt::format("{:.3f}", balance_of(start)), start.state()});
  }
  return table;
}

report::Section timeline_section(const JobRecord& record, const PhaseInfo& phase) {
  report::Section section{.title = "Who did what when", .blocks = {}};
  const std::size_t starts = record.starts.size();
  if (starts > 1) section.blocks.emplace_back(starts_table(record, phase));
  for (std::size_t i = starts > kTimelines ? starts - kTimelines : 0; i < starts; ++i) {
    auto timeline = timeline_of(record.starts[i], phase);
    timeline.title = fmt::format("{}{}, on {}: {}", starts > 1 ? fmt::format("start {}, ", i + 1) : "",
                                 record.starts[i].utc, hosts_of(record.starts[i]), record.starts[i].state());
    section.blocks.emplace_back(std::move(timeline));
  }
  return section;
}

report::Section throughput_section(const JobRecord& record, const PhaseInfo& phase) {
  report::Section section{.title = "Throughput", .blocks = {}};
  section.blocks.emplace_back(throughput_of(record.starts, phase.unit, &WorkSpan::length));
  section.blocks.emplace_back(throughput_of(record.starts, phase.item, &WorkSpan::items));
  section.blocks.emplace_back(report::Paragraph{
      fmt::format("Within a window the longest {} come first, so their number a second grows.", phase.item)});
  return section;
}

std::string compute_rate(const RankActivity& rank) {
  if (!(rank.expected_rate > 0) || !(rank.busy > 0)) return "\u2013";
  return fmt::format("{} of {}", number_text(rank.flops / rank.busy / 1e9),
                     number_text(rank.expected_rate / 1e9));
}

report::Table ranks_table(const StartRecord& start, const PhaseInfo& phase) {
  report::Table table;
  table.columns = {{"rank", Align::kRight},
                   {"host"},
                   {"device"},
                   {"workers", Align::kRight},
                   {phase.item, Align::kRight},
                   {phase.unit, Align::kRight},
                   {"busy a worker", Align::kRight},
                   {"GFLOP/s a worker", Align::kRight},
                   {"peak memory", Align::kRight}};
  std::vector<const RankActivity*> ranks;
  for (const auto& rank : start.ranks) ranks.push_back(&rank);
  if (ranks.size() > kRanksListed) {
    std::stable_sort(ranks.begin(), ranks.end(),
                     [](const auto* a, const auto* b) { return a->busy > b->busy; });
    table.note = fmt::format("The {} busiest of {} ranks; logs/activity_*.jsonl have all.", kRanksListed,
                             ranks.size());
    ranks.resize(kRanksListed);
  }
  for (const auto* rank : ranks) {
    table.rows.push_back({std::to_string(rank->rank), rank->host, rank->device, std::to_string(rank->workers),
                          count(rank->items), count(rank->length),
                          seconds(rank->busy / std::max(rank->workers, 1)), compute_rate(*rank),
                          bytes(rank->peak_memory)});
  }
  return table;
}

report::Section ranks_section(const JobRecord& record, const PhaseInfo& phase) {
  const auto& last = record.starts.back();
  const std::string which = record.starts.size() > 1 ? ", last start" : "";
  report::Section section{.title = "Balance, and where the time went", .blocks = {}};
  report::Bars busy{
      .title = fmt::format("busy time of a worker, rank by rank{}: balance {:.3f}", which, balance_of(last)),
      .unit = Unit::kSeconds,
      .parts = {"busy"}};
  report::Bars times{.title = fmt::format("a worker's time, rank by rank{}", which),
                     .unit = Unit::kSeconds,
                     .parts = time_parts()};
  double sum = 0, journal = 0;
  for (const auto& rank : last.ranks) {
    const double mean = rank.busy / std::max(rank.workers, 1);
    busy.bars.push_back({rank_name(rank), {mean}, rank.host});
    times.bars.push_back(time_bar(rank));
    sum += mean;
    journal = std::max(journal, rank.journal);
  }
  busy.mark = report::Mark{"mean", sum / static_cast<double>(last.ranks.size())};
  section.blocks.emplace_back(std::move(busy));
  section.blocks.emplace_back(std::move(times));
  section.blocks.emplace_back(report::Paragraph{fmt::format(
      "Results were made durable beside the computing: {} of writing and syncing on the busiest rank.",
      seconds(journal))});
  section.blocks.emplace_back(ranks_table(last, phase));
  return section;
}

void add_mishaps(const std::string& what, const Mishaps& mishaps, report::Section& section) {
  if (mishaps.count == 0) return;
  report::Table kinds;
  kinds.columns = {{what, Align::kRight}, {"reason (numbers as #)"}};
  for (std::size_t i = 0; i < std::min(mishaps.kinds.size(), kKindsListed); ++i)
    kinds.rows.push_back({count(mishaps.kinds[i].second), mishaps.kinds[i].first});
  if (mishaps.read < mishaps.count) kinds.note = fmt::format("Kinds of the first {}.", count(mishaps.read));
  report::Table first;
  first.columns = {{"where"}, {"id"}, {"reason"}};
  for (const auto& mishap : mishaps.first)
    first.rows.push_back({mishap.where, mishap.id, mishap.reason.substr(0, kReasonBytes)});
  if (mishaps.first.size() < mishaps.count)
    first.note = fmt::format("The first {} of {}.", mishaps.first.size(), count(mishaps.count));
  section.blocks.emplace_back(std::move(kinds));
  section.blocks.emplace_back(std::move(first));
}

report::Section failures_section(const JobRecord& record) {
  report::Section section{.title = "Failures", .blocks = {}};
  add_mishaps("failed", record.failures, section);
  add_mishaps("rejected", record.rejects, section);
  if (section.blocks.empty())
    section.blocks.emplace_back(report::Paragraph{"No item failed and no row was rejected."});
  return section;
}

report::Section machines_section(const JobRecord& record) {
  struct Machine {
    std::string cpu, devices;
    std::uint64_t memory = 0;
    int ranks = 0, workers = 0;
  };
  std::map<std::string, Machine> machines;
  for (const auto& rank : record.starts.back().ranks) {
    auto& machine = machines[rank.host];
    machine.cpu = rank.cpu;
    machine.memory = rank.host_memory;
    machine.ranks += 1;
    machine.workers += rank.workers;
    if (machine.devices.find(rank.device) == std::string::npos)
      machine.devices += (machine.devices.empty() ? "" : ", ") + rank.device;
  }
  report::Table table;
  table.columns = {{"host"},
                   {"CPU"},
                   {"devices"},
                   {"memory", Align::kRight},
                   {"ranks", Align::kRight},
                   {"workers", Align::kRight}};
  for (const auto& [host, machine] : machines) {
    if (table.rows.size() == kRanksListed) {
      table.note = fmt::format("{} of {} machines.", kRanksListed, machines.size());
      break;
    }
    table.rows.push_back({host, machine.cpu, machine.devices, bytes(static_cast<double>(machine.memory)),
                          std::to_string(machine.ranks), std::to_string(machine.workers)});
  }
  return {.title = "Machines", .blocks = {std::move(table)}};
}

report::Section identity_section(const JobRecord& record) {
  report::Facts facts;
  const std::string command = record.manifest         ? record.manifest->command
                              : record.starts.empty() ? ""
                                                      : record.starts.back().ranks.front().command;
  facts.rows.emplace_back("command", command);
  if (!record.manifest) {
    facts.rows.emplace_back("digests", "written to the manifest when the job is finished");
    return {.title = "What was run", .blocks = {std::move(facts)}};
  }
  for (const auto& [name, value] : record.manifest->facts) facts.rows.emplace_back(name, value);
  for (const auto& [name, value] : record.manifest->identity) {
    if (!name.starts_with("key ")) facts.rows.emplace_back(name, value);
  }
  report::Table files;
  files.columns = {{"file"}, {"size", Align::kRight}, {"SHA-256"}};
  const auto& all = record.manifest->files;
  for (const auto& file : all) {
    if (files.rows.size() == kFilesListed) {
      files.note =
          fmt::format("The first {} of {} files; manifest.json has all.", kFilesListed, count(all.size()));
      break;
    }
    files.rows.push_back({file.name, bytes(static_cast<double>(file.bytes)), file.sha256});
  }
  return {.title = "What was run", .blocks = {std::move(facts), std::move(files)}};
}

}  // namespace

report::Report job_report(const PhaseInfo& phase, const JobRecord& record, const ReportSource& source) {
  report::Report out;
  const auto state = state_of(record);
  out.title = fmt::format("{}: {}", record.job, record.directory);
  out.subtitle = state.text;
  out.tone = state.tone;
  out.tiles = tiles_of(record, phase);
  if (record.manifest && phase.report) {
    try {
      for (auto& section : phase.report(source)) out.sections.push_back(std::move(section));
    } catch (const std::exception& error) {
      core::log::warning("a part of report.html is left out: {}", error.what());
    }
  }
  if (!record.starts.empty()) {
    out.sections.push_back(timeline_section(record, phase));
    out.sections.push_back(throughput_section(record, phase));
    out.sections.push_back(ranks_section(record, phase));
    out.sections.push_back(lengths_section(record, phase));
    out.sections.push_back(memory_section(record));
  }
  out.sections.push_back(failures_section(record));
  if (!record.starts.empty()) out.sections.push_back(machines_section(record));
  out.sections.push_back(identity_section(record));
  out.sections.push_back({.title = "All settings (resolved.yaml)",
                          .blocks = {report::Preformatted{record.resolved}},
                          .fold = report::Fold::kFolded});
  return out;
}

}  // namespace muster::phases
