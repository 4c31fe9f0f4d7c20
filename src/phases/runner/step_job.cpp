// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/step_job.h"

#include <fmt/format.h>

#include <array>
#include <filesystem>

#include "muster/core/clock.h"
#include "muster/core/fault.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "muster/io/run_directory.h"

namespace muster::phases {
namespace {

constexpr const char* kMemoryNote = "use fewer ranks or workers, a smaller dtype or batch, or more memory";

constexpr std::uint64_t kMostDecisionBytes = 4096;

// What the ranks agree on before every step: a request that reached any of them counts.
struct Wishes {
  bool stop = false;
  bool save = false;
};

Wishes agree(comm::Communicator& world, const Wishes& mine) {
  std::array<std::int32_t, 2> wishes{mine.stop, mine.save};
  world.all_reduce(comm::Buffer(std::span<std::int32_t>(wishes)), comm::Op::kMax);
  return {.stop = wishes[0] != 0, .save = wishes[1] != 0};
}

}  // namespace

core::ExitCode run_step_job(comm::Session& session, const JobRequest& request) {
  StepJob job(session, request);
  return job.run();
}

core::ExitCode run_job(comm::Session& session, const JobRequest& request) {
  if (request.phase.pipeline) return request.phase.pipeline.run(session, request);
  return request.phase.create ? run_item_job(session, request) : run_step_job(session, request);
}

StepJob::StepJob(comm::Session& session, const JobRequest& request) : JobFrame(session, request) {
  start_signals([] {});
}

StepJob::~StepJob() {
  end_signals();
}

core::ExitCode StepJob::run() {
  comm::collectively(world_, [&] {
    if (request_.retry_failed)
      throw core::ConfigError(
          fmt::format("--retry-failed is for jobs over items; {} has none of its own: run "
                      "the same command again to go on, or --fresh to start over",
                      request_.phase.name));
    choose_device();
  });
  agree_on_hardware();
  workers_ = workers();
  if (request_.dry_run) return dry_run();
  open_directory();
  comm::collectively(world_, [&] { resolve_once(); });
  comm::collectively(world_, [&] { create_phase(); });
  comm::collectively(world_, [&] { survey(); });
  if (open_run() == io::Opened::kFinished) return report_finished();
  comm::collectively(world_, [&] {
    if (is_root()) check_disk(run_->path(), phase_->disk_bytes());
  });
  try {
    watch();
    begin_account();
    const Outcome outcome = work();
    if (outcome == Outcome::kComplete) publish();
    return finish(outcome);
  } catch (const std::exception& error) {
    die(error);
  }
}

core::ExitCode StepJob::dry_run() {
  comm::collectively(world_, [&] {
    if (request_.phase.resolve_once) {
      for (const auto& [key, value] : request_.phase.resolve_once(config_, world_.size()))
        config_.resolve(key, value);
    }
    create_phase();
    if (!is_root()) return;
    check_output_place();
    survey();
    check_disk(config_.string("output.dir"), phase_->disk_bytes());
    phase_->check();
    const auto plan = phase_->plan(world_.size(), workers_);
    const double needed = plan.rank_bytes * session_.place().local_size;
    const auto memory = static_cast<double>(device::memory_info(device::Device{}).total_bytes);
    fmt::print("{}", plan.text);
    if (device_.kind == device::Kind::kCpu && needed > memory) {
      throw core::ResourceError(fmt::format(
          "{} ranks on {} need {}, but it has {}; {}", session_.place().local_size, session_.place().host,
          core::human_bytes(needed), core::human_bytes(memory), kMemoryNote));
    }
  });
  return core::ExitCode::kDone;
}

// What the first start decided stands in .run/, and later in the manifest.
void StepJob::resolve_once() {
  if (!request_.phase.resolve_once) return;
  const auto manifest = request_.fresh ? std::nullopt : io::read_manifest(run_->path());
  for (auto [key, value] : request_.phase.resolve_once(config_, world_.size())) {
    if (manifest && manifest->identity.contains("key " + key)) {
      value = manifest->identity.at("key " + key);
    } else if (const auto file = decision_file(key); std::filesystem::exists(file)) {
      value = std::string(core::trim(core::read_file(file, kMostDecisionBytes)));
    }
    decided_[key] = value;
    config_.resolve(key, value);
  }
}

std::string StepJob::decision_file(const std::string& key) const {
  return run_->run_file("decided." + key);
}

void StepJob::create_phase() {
  phase_ = request_.phase.create_step({config_, device_});
}

io::Opened StepJob::open_run() {
  comm::collectively(world_, [&] {
    if (!is_root()) return;
    make_identity(phase_->identity());
  });
  survey_.rows = world_.broadcast_value(survey_.rows);
  survey_.rejected = world_.broadcast_value(survey_.rejected);
  const auto opened = run_->open(identity_, world_);
  comm::collectively(world_, [&] {
    if (!is_root() || opened == io::Opened::kFinished) return;
    if (opened == io::Opened::kNew) forget_activity(run_->path());
    for (const auto& [key, value] : decided_) core::publish_text(decision_file(key), value);
    write_resolved();
    write_rejects();
  });
  start_utc_ = world_.broadcast_string(start_utc_);
  return opened;
}

void StepJob::begin_account() {
  RankActivity who;
  who.predicted_memory = phase_->plan(world_.size(), workers_).rank_bytes;
  start_recorder(std::move(who), {});
}

StepContext StepJob::make_context() {
  return {.session = session_,
          .world = world_,
          .run = *run_,
          .survey = survey_,
          .workers = workers_,
          .begins =
              [this](const std::string& what) {
                recorder_->main_does(WaitsFor::kPreparing);
                watchdog_->step(what);
              },
          .waits =
              [this](const std::string& what) {
                recorder_->main_does(WaitsFor::kRanks);
                watchdog_->waiting(what);
              },
          .batch_begins = [this](int worker) { recorder_->worker_works(worker); },
          .batch_done = [this](const MicroBatchNote& note) { note_batch(note); },
          .metric =
              [this](const std::string& name, double value, const std::string& unit, std::uint64_t step) {
                if (is_root()) append_metrics(metric(name, value, unit, step));
              },
          .facts = facts_};
}

void StepJob::note_batch(const MicroBatchNote& note) {
  std::vector<ItemView> items(note.lengths.size());
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].length = note.lengths[i];
    length += note.lengths[i];
  }
  recorder_->batch_done(
      {.worker = note.worker, .begin = note.begin, .end = note.end, .items = items, .records = {}});
  recorder_->worker_waits(note.worker);
  watchdog_->add_progress(items.size(), length, note.end - note.begin);
}

StepJob::Outcome StepJob::work() {
  recorder_->enter(Stage::kLoading);
  watchdog_->step("loading data and model");
  context_ = std::make_unique<StepContext>(make_context());
  {
    const core::ScopedTimer timer(&load_seconds_);
    phase_->start(*context_);
  }
  steps_before_ = phase_->steps_done();
  items_before_ = phase_->items_done();
  if (steps_before_ > 0 && is_root()) {
    core::log::info("resuming behind step {} of {}", steps_before_, phase_->steps_total());
  }
  if (is_root()) {
    progress_ = std::make_unique<ProgressLine>(
        *watchdog_, ProgressLine::Config{.item = request_.phase.item,
                                         .total = phase_->items_total(),
                                         .done_before = items_before_,
                                         .planned = nullptr,
                                         .max_seconds = config_.duration("run.max_time") -
                                                        (core::monotonic_seconds() - start_),
                                         .on_time_up = [this] { request_stop("run.max_time is reached"); }});
  }
  recorder_->enter(Stage::kComputing);
  Outcome outcome;
  {
    const core::ScopedTimer timer(&compute_seconds_);
    outcome = take_steps();
  }
  recorder_->workers_end();
  progress_.reset();
  return outcome;
}

StepJob::Outcome StepJob::take_steps() {
  const double interval = config_.duration("run.checkpoint_interval");
  last_save_ = core::monotonic_seconds();
  while (!phase_->finished()) {
    const bool save_is_due = is_root() && core::monotonic_seconds() - last_save_ > interval;
    watchdog_->waiting("the other ranks");
    const Wishes wishes = agree(world_, {.stop = stop_requested(), .save = save_is_due});
    if (wishes.stop) {
      save();
      return Outcome::kStopped;
    }
    if (wishes.save || phase_->wants_checkpoint()) save();
    watchdog_->step(fmt::format("step {}", phase_->steps_done() + 1));
    core::fault_point("step.begin");
    phase_->step();
  }
  return Outcome::kComplete;
}

void StepJob::save() {
  const core::ScopedTimer timer(&save_seconds_);
  watchdog_->step(fmt::format("saving step {}", phase_->steps_done()));
  core::fault_point("checkpoint.begin");
  phase_->save();
  core::fault_point("checkpoint.end");
  // A line in the journal makes the directory this job's: another config is refused from now on.
  if (is_root()) {
    run_->append({{.item = saves_, .kind = formats::RecordKind::kResult, .payload = {}}});
    run_->flush();
  }
  ++saves_;
  last_save_ = core::monotonic_seconds();
}

void StepJob::publish() {
  const core::ScopedTimer timer(&publish_seconds_);
  recorder_->enter(Stage::kPublishing);
  is_root() ? watchdog_->step("writing the result") : watchdog_->waiting("rank 0, which writes the result");
  core::fault_point("publish.begin");
  files_ = phase_->publish();
  core::fault_point("publish.end");
}

core::ExitCode StepJob::final_code() const {
  if (survey_.rejected == 0) return core::ExitCode::kDone;
  const auto allowed =
      config::failures_allowed(config_.string("run.max_failures"), survey_.rows + survey_.rejected);
  return survey_.rejected > allowed ? core::ExitCode::kPartial : core::ExitCode::kDone;
}

std::string StepJob::finished_text() const {
  return fmt::format("{} steps over {} {}", fact("steps"), fact("rows"), request_.phase.item);
}

core::ExitCode StepJob::finish(Outcome outcome) {
  const auto code = outcome == Outcome::kStopped ? core::ExitCode::kStopped : final_code();
  std::string mine = metric("load", load_seconds_, "s") + metric("compute", compute_seconds_, "s") +
                     metric("checkpoints", save_seconds_, "s") + metric("publish", publish_seconds_, "s") +
                     metric("workers", workers_, "threads") +
                     metric("peak_memory", static_cast<double>(device::peak_host_bytes()), "bytes");
  const auto all = world_.gather_strings(mine);
  const auto accounts =
      world_.gather_strings(recorder_->end(outcome == Outcome::kStopped ? "stopped" : "done"));
  watchdog_->waiting("rank 0, which writes manifest and report");
  if (is_root()) {
    append_metrics(core::join(all, ""));
    if (outcome == Outcome::kComplete) {
      facts_["rows"] = std::to_string(survey_.rows);
      facts_["rejected"] = std::to_string(survey_.rejected);
      facts_["failed"] = "0";
      facts_["steps"] = std::to_string(phase_->steps_done());
      watchdog_->step("hashing the results");
      if (survey_.rejected > 0) files_.push_back("rejects.jsonl");
      write_final_manifest(code, files_);
      const auto items = static_cast<double>(phase_->items_done() - items_before_);
      core::log::info("{}: {} steps in {}: {:.1f} {}/s; {}", request_.phase.name,
                      phase_->steps_done() - steps_before_,
                      core::human_duration(core::monotonic_seconds() - start_),
                      items / std::max(compute_seconds_, 1e-9), request_.phase.item, phase_->summary());
      write_report(accounts);
    } else {
      core::log::info("stopped on request behind step {} of {}, saved; run the same command again to go on",
                      phase_->steps_done(), phase_->steps_total());
    }
  }
  close(code);
  // Rejected rows are no reason to keep what only an unfinished job needs.
  if (code == core::ExitCode::kPartial && is_root()) run_->remove_run_files();
  return code;
}

}  // namespace muster::phases
