// SPDX-License-Identifier: Apache-2.0
// What a job says about itself when it ends: failures.jsonl, metrics.jsonl, manifest.json, the summary.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "muster/core/clock.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "phases/report/job_report.h"
#include "phases/runner/item_job_impl.h"
#include "phases/runner/plan_report.h"

namespace muster::phases {
namespace {

std::string fact(const std::map<std::string, std::string>& facts, const std::string& name) {
  const auto found = facts.find(name);
  return found == facts.end() ? "0" : found->second;
}

}  // namespace

core::ExitCode ItemJob::dry_run() {
  comm::collectively(world_, [&] {
    if (is_root()) {
      check_output_place();
      survey();
      check_disk(config_.string("output.dir"));
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

// Where nothing is created: the nearest folder that exists must take new files.
void ItemJob::check_output_place() const {
  std::filesystem::path place = std::filesystem::absolute(config_.string("output.dir"));
  while (!std::filesystem::exists(place) && place.has_relative_path()) place = place.parent_path();
  if (!std::filesystem::is_directory(place))
    throw core::OutputError(fmt::format("{} is not a folder", place.string()));
  if (::access(place.c_str(), W_OK | X_OK) != 0) {
    throw core::OutputError(fmt::format("{} is not writable: {}; choose another output directory",
                                        place.string(), core::errno_text(errno)));
  }
}

void ItemJob::start_recorder() {
  const Footprint footprint = phase_->footprint();
  const auto cut = phase_->cut();
  RankActivity who;
  who.start_utc = start_utc_;
  who.job = request_.phase.name;
  who.command = request_.command;
  who.host = session_.place().host;
  who.device = device_.name();
  who.cpu = device::cpu_model();
  who.rank = world_.rank();
  who.ranks = world_.size();
  who.workers = workers_;
  who.cores = static_cast<int>(session_.place().cores.size());
  who.host_memory = device::memory_info(device::Device{}).total_bytes;
  who.rows = survey_.rows;
  who.done_before = done_before_;
  who.predicted_memory = footprint.weight_bytes > 0 ? rank_bytes(footprint, workers_) : 0;
  who.expected_rate = footprint.weight_bytes > 0 ? footprint.flops_per_second : 0;
  who.batch_budget = cut.batch_items == 0 ? cut.batch_tokens : 0;
  who.tile = cut.tile;
  auto recorder = std::make_unique<Recorder>(
      Recorder::Config{.who = std::move(who),
                       .path = activity_file(run_->path(), world_.rank()),
                       .zero = start_,
                       .flops = footprint.flops,
                       .journal_seconds = [this] { return run_->commit_seconds_spent(); }});
  const std::lock_guard lock(signal_mutex_);
  recorder_ = std::move(recorder);
}

core::ExitCode ItemJob::report_finished() {
  int code = 0;
  comm::collectively(world_, [&] {
    if (!is_root()) return;
    const auto manifest = io::read_manifest(run_->path());
    core::internal_check(manifest.has_value(), "a finished job has a manifest");
    code = std::stoi(fact(manifest->facts, "exit_code"));
    core::log::info(
        "{} is finished already ({}): {} {}, truncated {}, rejected {}, failed {}; --fresh starts over",
        run_->path(), fact(manifest->facts, "finished_utc"), fact(manifest->facts, "rows"),
        request_.phase.item, fact(manifest->facts, "truncated"), fact(manifest->facts, "rejected"),
        fact(manifest->facts, "failed"));
  });
  code = world_.broadcast_value<std::int32_t>(code);
  core::log::close_file();
  if (is_root() && code == 0) run_->remove_run_files();
  return static_cast<core::ExitCode>(code);
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
  busy_ = world_.all_gather_value(totals_.busy_seconds);
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
    write_final_manifest(code);
  }
  if (is_root()) summarize(code);
  if (is_root() && outcome == Outcome::kComplete) write_report(accounts);
  watchdog_->idle();
  world_.barrier();
  {
    const std::lock_guard lock(signal_mutex_);
    watchdog_.reset();
  }
  if (code == core::ExitCode::kDone) {
    core::log::close_file();
    if (is_root()) run_->remove_run_files();
  }
  world_.barrier();
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
  core::log::warning("{} {} failed; {} lists them, --retry-failed does only those", failed_rows_.size(),
                     request_.phase.item, path);
}

std::string ItemJob::metric(const std::string& name, double value, const std::string& unit) const {
  return fmt::format(
      R"({{"ts":"{}","job":{},"phase":"{}","rank":{},"step":0,"name":"{}","value":{:.9g},"unit":"{}"}})"
      "\n",
      core::utc_now(), core::json_quote(start_utc_), request_.phase.name, world_.rank(), name, value, unit);
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
  if (!is_root()) return;
  const std::string path = run_->file("metrics.jsonl");
  const core::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd) throw core::OutputError(fmt::format("cannot open {}: {}", path, core::errno_text(errno)));
  core::write_all(fd.get(), core::join(all, ""), path);
}

void ItemJob::write_final_manifest(core::ExitCode code) {
  facts_["exit_code"] = std::to_string(static_cast<int>(code));
  facts_["rows"] = std::to_string(survey_.rows);
  facts_["failed"] = std::to_string(failed_rows_.size());
  facts_["rejected"] = std::to_string(survey_.rejected);
  facts_["world_size"] = std::to_string(world_.size());
  facts_["host"] = session_.place().host;
  facts_["working_directory"] = std::filesystem::current_path().string();
  facts_["started_utc"] = start_utc_;
  facts_["finished_utc"] = core::utc_now();
  write_resolved();
  auto files = files_;
  files.push_back("resolved.yaml");
  if (survey_.rejected > 0) files.push_back("rejects.jsonl");
  if (!failed_rows_.empty()) files.push_back("failures.jsonl");
  io::write_manifest(run_->path(), {.job = request_.phase.name,
                                    .command = request_.command,
                                    .identity = identity_,
                                    .files = files,
                                    .facts = facts_});
  run_->close_reopened();
}

// Everything that counts is published by now: whatever goes wrong here is a warning.
void ItemJob::write_report(const std::vector<std::string>& accounts) const {
  watchdog_->step("writing report.html");
  try {
    auto record = read_job_record(run_->path(), accounts);
    core::publish_text(run_->file("report.html"),
                       report::to_html(job_report(request_.phase, record, {run_->path(), &config_})));
    core::log::info("wrote {}", run_->file("report.html"));
  } catch (const std::exception& error) {
    core::log::warning("report.html is not written: {}; `muster report {}` does it", error.what(),
                       run_->path());
  }
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
      fact(facts_, "truncated"), survey_.rejected, failed_rows_.size());
  for (const auto& file : files_) core::log::info("wrote {}", run_->file(file));
}

}  // namespace muster::phases
