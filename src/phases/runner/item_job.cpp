// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "muster/core/clock.h"
#include "muster/core/fault.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "phases/runner/item_job_impl.h"
#include "phases/runner/progress.h"
#include "phases/runner/window_feeder.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kRowsAStep = 65536;  // how often a pass over the input tells the watchdog

}  // namespace

core::ExitCode run_item_job(comm::Session& session, const JobRequest& request) {
  ItemJob job(session, request);
  return job.run();
}

ItemJob::ItemJob(comm::Session& session, const JobRequest& request) : JobFrame(session, request) {
  start_signals([this] { queue_.stop(); });
}

ItemJob::~ItemJob() {
  end_signals();
}

core::ExitCode ItemJob::run() {
  comm::collectively(world_, [&] { choose_device(); });
  agree_on_hardware();
  comm::collectively(world_, [&] { create_phase(); });
  if (request_.dry_run) return dry_run();
  open_directory();
  comm::collectively(world_, [&] { survey(); });
  if (open_run() == io::Opened::kFinished) return report_finished();
  join_group();
  comm::collectively(world_, [&] { check_room(run_->path()); });
  try {
    watch();
    begin_account();
    const Outcome outcome = compute();
    if (outcome == Outcome::kComplete) publish();
    return finish(outcome);
  } catch (const std::exception& error) {
    die(error);
  }
}

void ItemJob::create_phase() {
  phase_ = request_.phase.create({config_, device_});
  workers_ = std::min(workers(), phase_->most_workers());
  phase_->cut().validate();
  schedule_from_name(config_.string("run.schedule"));
}

void ItemJob::join_group() {
  group_size_ = phase_->ranks_an_item(world_.size());
  std::string words;  // names and values, each behind a zero byte
  for (const auto& [name, value] : identity_) words += '\0' + name + '\0' + value;
  words = world_.broadcast_string(words);
  const auto parts = core::split(words, '\0');
  io::Identity identity;
  for (std::size_t i = 1; i + 1 < parts.size(); i += 2) identity[parts[i]] = parts[i + 1];
  if (serves()) workers_ = 0;
  auto group = std::make_shared<comm::Communicator>(world_.split(world_.rank() / group_size_, world_.rank()));
  comm::collectively(world_, [&] {
    phase_->join({.directory = run_->path(),
                  .identity = std::move(identity),
                  .rank = world_.rank(),
                  .group = std::move(group)});
  });
}

// Every rank looks at its share of what earlier starts recorded; rank 0 gets all rows whose files are gone.
std::vector<std::uint64_t> ItemJob::lost_rows() {
  const auto is_intact = phase_->is_intact(run_->path());
  if (!is_intact) return {};
  std::vector<std::string> mine;
  comm::collectively(world_, [&] {
    const auto share = static_cast<std::uint64_t>(world_.size()),
               own = static_cast<std::uint64_t>(world_.rank());
    run_->for_each_ref(run_->journal(), [&](const io::JournalEntry& entry, const formats::RecordRef& ref) {
      if (ref.kind != formats::RecordKind::kResult || ref.item % share != own) return;
      if (!is_intact(ref.item, run_->payload(entry.segment, ref))) mine.push_back(std::to_string(ref.item));
    });
  });
  std::vector<std::uint64_t> rows;
  for (const auto& list : world_.gather_strings(core::join(mine, ","))) {
    if (list.empty()) continue;
    for (const auto& row : core::split(list, ',')) rows.push_back(std::stoull(row));
  }
  return rows;
}

io::Opened ItemJob::open_run() {
  comm::collectively(world_, [&] {
    if (!is_root()) return;
    make_identity(phase_->identity());
  });
  survey_.rows = world_.broadcast_value(survey_.rows);
  const auto opened = run_->open(identity_, world_);
  const auto lost = opened == io::Opened::kResumed ? lost_rows() : std::vector<std::uint64_t>();
  comm::collectively(world_, [&] {
    if (!is_root() || opened == io::Opened::kFinished) return;
    if (opened == io::Opened::kNew) forget_activity(run_->path());
    // A finished result that is worked on again keeps the config that its manifest lists until the new one is
    // there.
    if (!std::filesystem::exists(run_->file("manifest.json"))) write_resolved();
    write_rejects();
    status_ = row_status(*run_, run_->journal(), survey_.rows);
    for (const auto row : lost) status_.at(row) = RowStatus::kOpen;
    if (!lost.empty())
      core::log::warning("{} finished {} are gone or damaged on disk; they are done again", lost.size(),
                         request_.phase.item);
    if (request_.retry_failed)
      std::replace(status_.begin(), status_.end(), RowStatus::kFailed, RowStatus::kOpen);
    done_before_ = static_cast<std::uint64_t>(
        std::count_if(status_.begin(), status_.end(), [](RowStatus s) { return s != RowStatus::kOpen; }));
    if (opened == io::Opened::kResumed) {
      core::log::info("resuming: {} of {} {} are done, {} to do", done_before_, survey_.rows,
                      request_.phase.item, survey_.rows - done_before_);
    }
  });
  done_before_ = world_.broadcast_value(done_before_);
  start_utc_ = world_.broadcast_string(start_utc_);  // names this start in what every rank writes
  return opened;
}

void ItemJob::check_room(const std::string& directory) {
  if (!is_root()) return;
  // Segments and the final file stand side by side until the job is done.
  const std::uint64_t left = survey_.rows - done_before_;
  check_disk(directory, phase_->result_bytes() * (left + survey_.rows) + (std::uint64_t{1} << 20));
}

ItemJob::Outcome ItemJob::compute() {
  Activity activity(*watchdog_, *recorder_);
  activity.main_steps("loading the model", WaitsFor::kOther);
  recorder_->enter(Stage::kLoading);
  {
    const core::ScopedTimer timer(&load_seconds_);
    phase_->load();
  }
  recorder_->enter(Stage::kComputing);
  const double begin = core::monotonic_seconds();

  std::unique_ptr<AcceptedItems> items;
  if (is_root()) items = std::make_unique<AcceptedItems>(input_of(config_), survey_);
  std::string plan;
  PlannedWork planned;
  WindowFeeder::Config feed{.window_items = static_cast<std::uint64_t>(config_.integer("run.window_items")),
                            .schedule = schedule_from_name(config_.string("run.schedule")),
                            .workers = workers_,
                            .ranks_an_item = group_size_,
                            .next_item =
                                [&](formats::Item& item) {
                                  while (items->next(item)) {
                                    if (status_[item.row] == RowStatus::kOpen) return true;
                                  }
                                  return false;
                                },
                            .plan_line = [&](const std::string& line) { plan += line + "\n"; },
                            .planned = &planned};
  std::optional<ProgressLine> progress;
  if (is_root()) {
    progress.emplace(*watchdog_,
                     ProgressLine::Config{.item = request_.phase.item,
                                          .total = survey_.rows,
                                          .done_before = done_before_,
                                          .planned = &planned,
                                          .ranks_an_item = group_size_,
                                          .max_seconds = config_.duration("run.max_time") - (begin - start_),
                                          .on_time_up = [this] { request_stop("run.max_time is reached"); }});
  }
  bool stopped = false;
  const Role role = serves() ? Role::kServes : Role::kLeads;
  {
    Sealer results(phase_->seal(), *run_);
    WindowFeeder feeder(*phase_, {world_.duplicate(), world_.duplicate()}, activity, std::move(feed));
    WorkerPool pool(
        {*phase_, results, activity, queue_},
        {.workers = workers_,
         .role = role,
         .on_truncate = config_.string("run.on_truncate") == "fail" ? OnTruncate::kFail : OnTruncate::kWarn,
         .had_success = done_before_ > 0 || request_.retry_failed,
         .on_fatal = [this](const std::exception& error) { die(error); }});
    try {
      while (feeder.next(queue_.stopped() ? WindowFeeder::Want::kStop : WindowFeeder::Want::kMore, queue_)) {
      }
      queue_.close();
      recorder_->main_does(WaitsFor::kEnd);
      // Whoever serves waits for its leader here.
      pool.join();
      if (role == Role::kLeads) phase_->dismiss();
      totals_ = pool.totals();
      stopped = queue_.stopped();
      results.flush();
      run_->flush();
      activity.main_waits("the other ranks", WaitsFor::kEnd);
      world_.barrier();  // the work service of rank 0 must outlive every request
      recorder_->workers_end();
    } catch (const std::exception& error) {
      die(error);  // before the destructors, which would wait for ranks that wait for this one
    }
  }
  progress.reset();
  if (is_root()) core::publish_text(run_->run_file("plan.jsonl"), plan);
  compute_seconds_ = core::monotonic_seconds() - begin;
  return world_.all_reduce_value<std::int32_t>(stopped, comm::Op::kMax) != 0 ? Outcome::kStopped
                                                                             : Outcome::kComplete;
}

void ItemJob::publish() {
  const double begin = core::monotonic_seconds();
  ::malloc_trim(
      0);  // what windows and batches used, before every row of this rank's share gets a place in memory
  recorder_->enter(Stage::kPublishing);
  is_root() ? watchdog_->step("creating the result file")
            : watchdog_->waiting("rank 0, which creates the result file");
  core::fault_point("publish.begin");
  const auto journal = run_->journal();
  status_ = row_status(*run_, journal, survey_.rows);
  for (std::uint64_t row = 0; row < survey_.rows; ++row) {
    core::internal_check(status_[row] != RowStatus::kOpen, fmt::format("item {} was lost", row));
    if (status_[row] == RowStatus::kFailed) failed_rows_.push_back(row);
  }
  std::unique_ptr<AcceptedItems> items;
  if (is_root()) items = std::make_unique<AcceptedItems>(input_of(config_), survey_);
  formats::Item item;
  PublishContext context{.run = *run_,
                         .world = world_,
                         .rows = survey_.rows - failed_rows_.size(),
                         .failed_rows = failed_rows_,
                         .journal = journal,
                         .step = [&](const std::string& what) { watchdog_->step(what); },
                         .next_id =
                             [&] {
                               do {
                                 core::internal_check(items->next(item), "there are fewer items than rows");
                                 if (item.row % kRowsAStep == 0)
                                   watchdog_->step(fmt::format("id {}", item.row));
                               } while (status_[item.row] == RowStatus::kFailed);
                               return item.id;
                             },
                         .attributes = {},
                         .facts = facts_};
  context.attributes["command"] = request_.command;
  context.attributes["world_size"] = static_cast<std::int64_t>(world_.size());
  context.attributes["started_utc"] = start_utc_;
  context.attributes["finished_utc"] = core::utc_now();
  files_ = phase_->publish(context);
  core::fault_point("publish.end");
  publish_seconds_ = core::monotonic_seconds() - begin;
}

}  // namespace muster::phases
