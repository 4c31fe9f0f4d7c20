// SPDX-License-Identifier: Apache-2.0
// What a job says about itself when it ends: failures.jsonl, metrics.jsonl, manifest.json, the summary.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "muster/core/clock.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "phases/report/job_report.h"
#include "phases/runner/item_job_impl.h"
#include "phases/runner/plan_report.h"

namespace muster::phases {
core::ExitCode ItemJob::dry_run() {
  comm::collectively(world_, [&] {
    if (is_root()) {
      check_output_place();
      survey();
      check_room(config_.string("output.dir"));
      auto planned = config_;
      planned.resolve("run.workers", std::to_string(workers_));
      const auto plan = plan_report(request_.phase, planned, *phase_, input_of(config_), world_.size());
      const double memory = static_cast<double>(device::memory_info(device::Device{}).total_bytes);
      if (device_.kind == device::Kind::kCpu && plan.rank_bytes * session_.place().local_size > memory) {
        throw core::ResourceError(fmt::format(
            "{} ranks on {} need {}, but it has {}; use fewer ranks, workers or a smaller dtype",
            session_.place().local_size, session_.place().host,
            core::human_bytes(plan.rank_bytes * session_.place().local_size), core::human_bytes(memory)));
      }
      fmt::print("{}", plan.text);
    }
    phase_->load();  // damaged or mis-shaped weights are found here
  });
  return core::ExitCode::kDone;
}

void ItemJob::begin_account() {
  const Footprint footprint = phase_->footprint();
  const auto cut = phase_->cut();
  RankActivity who;
  who.rows = survey_.rows;
  who.done_before = done_before_;
  who.predicted_memory = footprint.weight_bytes > 0 ? rank_bytes(footprint, workers_) : 0;
  who.expected_rate = footprint.weight_bytes > 0 ? footprint.flops_per_second : 0;
  who.batch_budget = cut.batch_items == 0 ? cut.batch_tokens : 0;
  who.tile = cut.tile;
  start_recorder(std::move(who), footprint.flops);
}

std::string ItemJob::finished_text() const {
  return fmt::format("{} {}, truncated {}, rejected {}, failed {}", fact("rows"), request_.phase.item,
                     fact("truncated"), fact("rejected"), fact("failed"));
}

core::ExitCode ItemJob::final_code() const {
  const std::uint64_t bad = failed_rows_.size() + survey_.rejected;
  if (bad == 0) return core::ExitCode::kDone;
  const std::uint64_t allowed =
      config::failures_allowed(config_.string("run.max_failures"), survey_.rows + survey_.rejected);
  return bad > allowed ? core::ExitCode::kPartial : core::ExitCode::kDone;
}

core::ExitCode ItemJob::finish(Outcome outcome) {
  survey_.rejected = world_.broadcast_value(survey_.rejected);
  const auto code = outcome == Outcome::kStopped ? core::ExitCode::kStopped : final_code();
  const auto busy = world_.all_gather_value(totals_.busy_seconds);
  for (std::size_t rank = 0; rank < busy.size(); rank += static_cast<std::size_t>(group_size_))
    busy_.push_back(busy[rank]);
  items_done_ = world_.all_reduce_value(totals_.items, comm::Op::kSum);
  length_done_ = world_.all_reduce_value(totals_.length, comm::Op::kSum);
  write_metrics();
  const auto accounts =
      world_.gather_strings(recorder_->end(outcome == Outcome::kStopped ? "stopped" : "done"));
  watchdog_->waiting("rank 0, which writes manifest and report");
  if (is_root() && outcome == Outcome::kComplete) {
    watchdog_->step("listing failures");
    write_failures();
    watchdog_->step("hashing the results");
    write_manifest(code);
  }
  if (is_root()) summarize(code);
  if (is_root() && outcome == Outcome::kComplete) write_report(accounts);
  close(code);
  return code;
}

void ItemJob::write_failures() {
  const std::string path = run_->file("failures.jsonl");
  if (failed_rows_.empty()) {
    ::unlink(path.c_str());
    return;
  }
  std::map<std::uint64_t, std::string> reasons;
  run_->for_each_ref(run_->journal(), [&](const io::JournalEntry& entry, const formats::RecordRef& ref) {
    if (ref.kind != formats::RecordKind::kFailure) return;
    const auto payload = run_->payload(entry.segment, ref);
    reasons[ref.item] = std::string(reinterpret_cast<const char*>(payload.data()), payload.size());
  });
  AcceptedItems items(input_of(config_), survey_);
  std::string lines;
  for (formats::Item item; items.next(item);) {
    if (status_[item.row] != RowStatus::kFailed) continue;
    lines += fmt::format("{{\"row\":{},\"id\":{},\"line\":{},\"reason\":{}}}\n", item.row,
                         core::json_quote(item.id), item.line, core::json_quote(reasons[item.row]));
  }
  core::publish_text(path, lines);
  // Of a job that ends well nothing is kept that could be gone on with.
  const bool goes_on = request_.keep_segments || final_code() != core::ExitCode::kDone;
  core::log::warning("{} {} failed; {} lists them{}", failed_rows_.size(), request_.phase.item, path,
                     goes_on ? ", --retry-failed does only those" : "");
}

void ItemJob::write_metrics() {
  std::string mine = metric("busy", totals_.busy_seconds, "s");
  mine += metric("load", load_seconds_, "s");
  mine += metric("compute", compute_seconds_, "s");
  mine += metric("publish", publish_seconds_, "s");
  mine += metric("journal", run_->commit_seconds_spent(), "s");
  mine += metric("items", static_cast<double>(totals_.items), request_.phase.item);
  mine += metric("length", static_cast<double>(totals_.length), request_.phase.unit);
  mine += metric("batches", static_cast<double>(totals_.batches), "batches");
  mine += metric("workers", workers_, "threads");
  mine += metric("peak_memory", static_cast<double>(device::peak_host_bytes()), "bytes");
  const auto all = world_.gather_strings(mine);
  if (is_root()) append_metrics(core::join(all, ""));
}

void ItemJob::write_manifest(core::ExitCode code) {
  facts_["rows"] = std::to_string(survey_.rows);
  facts_["failed"] = std::to_string(failed_rows_.size());
  facts_["rejected"] = std::to_string(survey_.rejected);
  auto files = files_;
  if (survey_.rejected > 0) files.push_back("rejects.jsonl");
  if (!failed_rows_.empty()) files.push_back("failures.jsonl");
  write_final_manifest(code, std::move(files));
}

void ItemJob::summarize(core::ExitCode code) const {
  const double seconds = core::monotonic_seconds() - start_;
  const double computing = std::max(compute_seconds_, 1e-9);
  if (code == core::ExitCode::kStopped) {
    core::log::info("stopped on request: {} of {} {} are saved; run the same command again to go on",
                    done_before_ + items_done_, survey_.rows, request_.phase.item);
    return;
  }
  core::log::info(
      "{}: {} {} ({} {}) in {}: {:.1f} {}/s, {:.0f} {}/s; balance {:.3f} over {} ranks; truncated {}, "
      "rejected {}, failed {}",
      request_.phase.name, items_done_, request_.phase.item, length_done_, request_.phase.unit,
      core::human_duration(seconds), static_cast<double>(items_done_) / computing, request_.phase.item,
      static_cast<double>(length_done_) / computing, request_.phase.unit, plan::balance(busy_), world_.size(),
      fact("truncated"), survey_.rejected, failed_rows_.size());
  std::map<std::string, std::uint64_t> in_folders;  // thousands of pictures, say
  for (const auto& file : files_) {
    const auto slash = file.find('/');
    if (slash == std::string::npos) {
      core::log::info("wrote {}", run_->file(file));
    } else {
      ++in_folders[file.substr(0, slash)];
    }
  }
  for (const auto& [folder, count] : in_folders)
    core::log::info("wrote {} file{} in {}", count, count == 1 ? "" : "s", run_->file(folder));
}

}  // namespace muster::phases
