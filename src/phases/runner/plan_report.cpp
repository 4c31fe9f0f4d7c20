// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/plan_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/checked.h"
#include "muster/core/clock.h"
#include "phases/runner/schedule.h"
#include "phases/runner/survey.h"

namespace muster::phases {
namespace {

// LibTorch, MPI and the program itself, before a model is loaded.
constexpr double kBaseBytes = 250e6;

}  // namespace

double rank_bytes(const Footprint& footprint, double workers) {
  return kBaseBytes + footprint.weight_bytes + footprint.worker_bytes * workers;
}

PlanReport plan_report(const PhaseInfo& info, const config::Config& config, const ItemPhase& phase,
                       const formats::InputConfig& input, int ranks) {
  PlanReport report;
  const Survey survey = survey_input(input, [](const formats::Reject&, const std::vector<std::string>&) {});
  const auto cut = phase.cut();
  const auto schedule = schedule_from_name(config.string("run.schedule"));
  const auto window_items = static_cast<std::size_t>(config.integer("run.window_items"));
  const Footprint footprint = phase.footprint();
  const int leaders = core::ceil_div(ranks, phase.ranks_an_item(ranks));
  std::vector<double> loads(static_cast<std::size_t>(leaders), 0.0);
  std::vector<std::uint32_t> lengths;
  std::uint32_t longest = 0;
  double flops = 0;
  const auto flush = [&] {
    report.batches += deal_window(lengths, schedule, cut, loads).batches.size();
    lengths.clear();
  };
  AcceptedItems items(input, survey);
  PreparedItem prepared;
  for (formats::Item item; items.next(item);) {
    phase.prepare(item.text, prepared);
    lengths.push_back(prepared.length);
    longest = std::max(longest, prepared.length);
    report.length += prepared.length;
    report.truncated += prepared.truncated;
    flops += footprint.flops(prepared.length);
    if (lengths.size() >= window_items) flush();
  }
  flush();
  report.items = survey.rows;
  report.balance = plan::balance(loads);
  const double workers =
      config.is_auto("run.workers") ? 1 : static_cast<double>(config.integer("run.workers"));
  report.wall_seconds = flops * report.balance / leaders / (footprint.flops_per_second * workers);
  report.rank_bytes = rank_bytes(footprint, workers);
  const double output = static_cast<double>(phase.result_bytes()) * static_cast<double>(report.items);

  auto& text = report.text;
  const auto row = [&](const std::string& name, const std::string& value) {
    text += fmt::format("  {:<26}{}\n", name, value);
  };
  text += fmt::format("plan: {} on {} ranks, {} {}, {}\n", info.name, ranks, config.string("run.device"),
                      config.string("run.dtype"), config.string("run.schedule"));
  row("input", fmt::format("{} {}, {} rejected, {} truncated", report.items, info.item, survey.rejected,
                           report.truncated));
  row("length", fmt::format("{} {}, longest {}", report.length, info.unit, longest));
  row("micro-batches", fmt::format("{} of at most {} {}", report.batches, cut.batch_tokens, info.unit));
  row(info.item + (leaders < ranks ? " a group of ranks" : " a rank"),
      fmt::format("{:.1f} on average", static_cast<double>(report.items) / leaders));
  row("balance (max/mean)", fmt::format("{:.4f}", report.balance));
  row("work", fmt::format("{:.1f} TFLOP, {:.0f} GFLOP/s expected a worker, {:.0f} worker(s) a rank",
                          flops / 1e12, footprint.flops_per_second / 1e9, workers));
  row("walltime", fmt::format("about {} (rates from a table; a run on your machine is the measure)",
                              core::human_duration(report.wall_seconds)));
  row("memory a rank",
      fmt::format("{}: program {}, weights {}, {:.0f} worker(s) x {}", core::human_bytes(report.rank_bytes),
                  core::human_bytes(kBaseBytes), core::human_bytes(footprint.weight_bytes), workers,
                  core::human_bytes(footprint.worker_bytes)));
  for (const auto& [name, value] : footprint.details) row(name, value);
  row("output", fmt::format("{} (twice that on disk while it is published)", core::human_bytes(output)));
  return report;
}

}  // namespace muster::phases
