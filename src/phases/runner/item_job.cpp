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
#include "phases/runner/item_job_impl.h"
#include "phases/runner/progress.h"
#include "phases/runner/window_feeder.h"
#include "phases/version.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kRowsAStep = 65536;   // how often a pass over the input tells the watchdog
constexpr double kLongestCommit = 24 * 3600;  // seconds; `none` would never save anything

}  // namespace

core::ExitCode run_item_job(comm::Session& session, const JobRequest& request) {
  ItemJob job(session, request);
  return job.run();
}

ItemJob::ItemJob(comm::Session& session, const JobRequest& request)
    : session_(session),
      world_(session.world()),
      request_(request),
      config_(request.config),
      start_(core::monotonic_seconds()),
      start_utc_(core::utc_now()),
      signals_(std::make_unique<comm::SignalThread>([this](int signal) { handle_signal(signal); })) {}

ItemJob::~ItemJob() = default;

core::ExitCode ItemJob::run() {
  comm::collectively(world_, [&] { choose_device(); });
  agree_on_hardware();
  comm::collectively(world_, [&] { create_phase(); });
  if (request_.dry_run) return dry_run();
  open_directory();
  comm::collectively(world_, [&] { survey(); });
  if (open_run() == io::Opened::kFinished) return report_finished();
  comm::collectively(world_, [&] { check_disk(run_->path()); });
  try {
    watch();
    start_recorder();
    const Outcome outcome = compute();
    if (outcome == Outcome::kComplete) publish();
    return finish(outcome);
  } catch (const std::exception& error) {
    die(error);
  }
}

void ItemJob::choose_device() {
  const device::DeviceConfig wanted{.device = config_.string("run.device"),
                                    .gpu_ids = config_.integers("run.gpu_ids")};
  device_ = device::choose_device(wanted, session_.place().local_rank);
  if (device_.kind != device::Kind::kCuda) return;
  const std::string who = comm::rank_label(session_.place());
  core::log::set_label(fmt::format("{}{}gpu {}", who, who.empty() ? "" : " ", device_.index));
}

// One device type and one dtype for the whole job, or its rows would not be comparable: `auto` takes what
// every rank has.
void ItemJob::agree_on_hardware() {
  const bool cuda = device_.kind == device::Kind::kCuda;
  const auto most = world_.all_reduce_value<std::int32_t>(cuda, comm::Op::kMax);
  const auto least = world_.all_reduce_value<std::int32_t>(cuda, comm::Op::kMin);
  if (most != least) {
    throw core::ConfigError(
        "some ranks have a GPU and some have none; say --device cpu, or start ranks only where GPUs are");
  }
  const auto bf16 = world_.all_reduce_value<std::int32_t>(device::cpu_has_bf16(), comm::Op::kMin);
  resolve_auto(config_, device_.kind, bf16 != 0 ? CpuBf16::kInHardware : CpuBf16::kEmulated);
}

void ItemJob::create_phase() {
  const auto cores = static_cast<int>(session_.place().cores.size());
  workers_ = config_.is_auto("run.workers") ? (device_.kind == device::Kind::kCpu ? cores : 1)
                                            : static_cast<int>(config_.integer("run.workers"));
  phase_ = request_.phase.create({config_, device_});
  phase_->cut().validate();
  schedule_from_name(config_.string("run.schedule"));
}

void ItemJob::open_directory() {
  auto run = std::make_unique<io::RunDirectory>(
      io::RunDirectoryConfig{
          .path = config_.string("output.dir"),
          .command = request_.command,
          .fresh = request_.fresh,
          .keep_segments = request_.keep_segments,
          .reopen = request_.retry_failed,
          .commit_seconds = std::min(config_.duration("run.commit_interval"), kLongestCommit)},
      world_);
  {
    const std::lock_guard lock(signal_mutex_);
    run_ = std::move(run);
  }
  comm::collectively(world_, [&] {
    core::make_directories(run_->file("logs"));
    core::log::open_file(run_->file(fmt::format("logs/rank_{:05d}.log", world_.rank())));
    core::log::debug("{} on {} with {} workers, {} ranks: {}", request_.phase.name, session_.place().host,
                     workers_, world_.size(), request_.command);
    if (is_root()) {
      for (const char* left_over : {"stop", "cause"}) ::unlink(run_->run_file(left_over).c_str());
    }
  });
}

// Rank 0 looks at the whole input once; bad rows are listed before any work.
void ItemJob::survey() {
  if (!is_root()) return;
  survey_ = survey_input(input_of(config_),
                         [&](const formats::Reject& reject, const std::vector<std::string>& files) {
                           rejects_ += formats::reject_json_line(reject, files);
                         });
  if (survey_.rejected > 0 && config_.boolean("run.strict")) {
    throw core::DataError(fmt::format("{} of {} rows are bad, and --strict does nothing then; the first: {}",
                                      survey_.rejected, survey_.rows + survey_.rejected,
                                      rejects_.substr(0, rejects_.find('\n'))));
  }
  if (survey_.replaced_utf8 > 0) {
    core::log::warning("{} items have bytes that are not UTF-8; they became U+FFFD", survey_.replaced_utf8);
  }
}

io::Opened ItemJob::open_run() {
  comm::collectively(world_, [&] {
    if (!is_root()) return;
    identity_ = phase_->identity();
    for (const auto& [key, value] : config_.identity()) identity_["key " + key] = value;
    identity_["input.sha256"] = survey_.digest;
    identity_["input.rows"] = std::to_string(survey_.rows);
    identity_["job"] = request_.phase.name;
    identity_["note.build"] =
        fmt::format("{} {}", kVersion, kCommit);  // another build is worth a warning, no more
  });
  survey_.rows = world_.broadcast_value(survey_.rows);
  const auto opened = run_->open(identity_, world_);
  comm::collectively(world_, [&] {
    if (!is_root() || opened == io::Opened::kFinished) return;
    if (opened == io::Opened::kNew) forget_activity(run_->path());
    // A finished result that is worked on again keeps the config that its manifest lists until the new one is
    // there.
    if (!std::filesystem::exists(run_->file("manifest.json"))) write_resolved();
    write_rejects();
    status_ = row_status(*run_, run_->journal(), survey_.rows);
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

void ItemJob::write_resolved() const {
  core::publish_text(run_->file("resolved.yaml"), config_.to_yaml());
}

// Only once the directory is known to be this job's: a refused start leaves an earlier result as it is.
void ItemJob::write_rejects() {
  const std::string path = run_->file("rejects.jsonl");
  if (survey_.rejected == 0) {
    ::unlink(path.c_str());
    return;
  }
  core::publish_text(path, rejects_);
  core::log::warning("{} of {} rows are rejected; {} lists them with line and reason", survey_.rejected,
                     survey_.rows + survey_.rejected, path);
}

void ItemJob::check_disk(const std::string& directory) {
  if (!is_root()) return;
  // Segments and the final file stand side by side until the job is done.
  const std::uint64_t left = survey_.rows - done_before_;
  const std::uint64_t needed = phase_->result_bytes() * (left + survey_.rows) + (std::uint64_t{1} << 20);
  const std::uint64_t free = core::free_disk_bytes(directory);
  if (free < needed) {
    throw core::OutputError(
        fmt::format("{} needs about {}, but its file system has {} free; free some space or choose another "
                    "output directory",
                    directory, core::human_bytes(static_cast<double>(needed)),
                    core::human_bytes(static_cast<double>(free))));
  }
}

void ItemJob::watch() {
  comm::WatchdogConfig config{.board_path = run_->run_file("beats"),
                              .hang_seconds = config_.duration("run.hang_timeout"),
                              .stop_path = run_->run_file("stop"),
                              .on_stop = [this] { request_stop("another rank was asked to stop"); },
                              .on_hang = [] {},
                              .cause_path = run_->run_file("cause")};
  auto watchdog = std::make_unique<comm::Watchdog>(session_.place(), std::move(config));
  const std::lock_guard lock(signal_mutex_);
  watchdog_ = std::move(watchdog);
  watchdog_->set_phase(request_.phase.name);
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
                                          .max_seconds = config_.duration("run.max_time") - (begin - start_),
                                          .on_time_up = [this] { request_stop("run.max_time is reached"); }});
  }
  bool stopped = false;
  {
    WindowFeeder feeder(*phase_, {world_.duplicate(), world_.duplicate()}, activity, std::move(feed));
    WorkerPool pool(
        {*phase_, *run_, activity, queue_},
        {.workers = workers_,
         .on_truncate = config_.string("run.on_truncate") == "fail" ? OnTruncate::kFail : OnTruncate::kWarn,
         .had_success = done_before_ > 0 || request_.retry_failed,
         .on_fatal = [this](const std::exception& error) { die(error); }});
    try {
      while (feeder.next(queue_.stopped() ? WindowFeeder::Want::kStop : WindowFeeder::Want::kMore, queue_)) {
      }
      queue_.close();
      recorder_->main_does(WaitsFor::kEnd);
      pool.join();
      totals_ = pool.totals();
      stopped = queue_.stopped();
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

void ItemJob::request_stop(const std::string& reason) {
  if (queue_.stopped()) return;
  queue_.stop();
  if (is_root()) {
    core::log::info("{}: stopping after the batch in hand; run the same command again to go on", reason);
  }
  // The file tells the other ranks: a signal may have reached this one only.
  if (run_) comm::claim_once(run_->run_file("stop"));
}

void ItemJob::handle_signal(int signal) {
  const std::lock_guard lock(signal_mutex_);
  if (signal == SIGUSR1 || signal == SIGUSR2) {
    request_stop(fmt::format("signal {}", signal == SIGUSR1 ? "USR1" : "USR2"));
    return;
  }
  // SIGINT or SIGTERM: from a person, or from mpirun because a rank is gone. About a second is left.
  try {
    if (watchdog_) {
      const auto dead = watchdog_->dead_ranks();
      if (!dead.empty() && comm::claim_once(run_->run_file("cause"))) {
        core::log::error(
            "rank {} is gone (killed, or out of host memory: see the kernel log); the job ends. "
            "Run the same command again to do what is left",
            fmt::join(dead, ", "));
      }
    }
    if (run_) run_->flush();
    if (recorder_) recorder_->end(fmt::format("ended by signal {}", signal));
    if (watchdog_) watchdog_->leave();
  } catch (const std::exception& error) {
    core::log::error("{}", error.what());
  }
  ::_exit(128 + signal);
}

void ItemJob::die(const std::exception& error) {
  try {
    if (!run_ || comm::claim_once(run_->run_file("cause"))) core::log::error("{}", error.what());
  } catch (const std::exception&) {
    core::log::error("{}", error.what());
  }
  try {
    if (run_) run_->flush();
    if (recorder_) recorder_->end(error.what());
  } catch (const std::exception& second) {
    core::log::debug("saving what was finished failed too: {}", second.what());
  }
  comm::Session::abort(static_cast<int>(core::exit_code_of(error)));
}

}  // namespace muster::phases
