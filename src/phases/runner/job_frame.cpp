// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/job_frame.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>

#include "muster/core/clock.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "phases/report/job_report.h"
#include "phases/version.h"

namespace muster::phases {
namespace {

constexpr double kLongestCommit = 24 * 3600;  // seconds; `none` would never save anything

}  // namespace

JobFrame::JobFrame(comm::Session& session, const JobRequest& request)
    : session_(session),
      world_(session.world()),
      request_(request),
      config_(request.config),
      start_(core::monotonic_seconds()),
      start_utc_(core::utc_now()) {}

JobFrame::~JobFrame() = default;

void JobFrame::start_signals(std::function<void()> on_stop) {
  on_stop_ = std::move(on_stop);
  signals_ = std::make_unique<comm::SignalThread>([this](int signal) { handle_signal(signal); });
}

void JobFrame::end_signals() {
  {
    const std::lock_guard lock(signal_mutex_);
    watchdog_.reset();
  }
  signals_.reset();
}

int JobFrame::workers() const {
  if (!config_.is_auto("run.workers")) return static_cast<int>(config_.integer("run.workers"));
  return device_.kind == device::Kind::kCpu ? static_cast<int>(session_.place().cores.size()) : 1;
}

void JobFrame::choose_device() {
  const device::DeviceConfig wanted{.device = config_.string("run.device"),
                                    .gpu_ids = config_.integers("run.gpu_ids")};
  device_ = device::choose_device(wanted, session_.place().local_rank);
  if (device_.kind != device::Kind::kCuda) return;
  const std::string who = comm::rank_label(session_.place());
  core::log::set_label(fmt::format("{}{}gpu {}", who, who.empty() ? "" : " ", device_.index));
}

// One device type and one dtype for the whole job, or its rows would not be comparable: `auto` takes what
// every rank has.
void JobFrame::agree_on_hardware() {
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

void JobFrame::open_directory() {
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

void JobFrame::make_identity(io::Identity of_phase) {
  identity_ = std::move(of_phase);
  for (const auto& [key, value] : config_.identity()) identity_["key " + key] = value;
  identity_["input.sha256"] = survey_.digest;
  identity_["input.rows"] = std::to_string(survey_.rows);
  identity_["job"] = request_.phase.name;
  identity_["note.build"] =
      fmt::format("{} {}", kVersion, kCommit);  // another build is worth a warning, no more
}

void JobFrame::write_resolved() const {
  core::publish_text(run_->file("resolved.yaml"), config_.to_yaml());
}

// Rank 0 looks at the whole input once; bad rows are listed before any work.
void JobFrame::survey() {
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
  for (const auto& remark : survey_.remarks) core::log::warning("{}", remark);
  if (survey_.replaced_utf8 > 0) {
    core::log::warning("{} items have bytes that are not UTF-8; they became U+FFFD", survey_.replaced_utf8);
  }
}

// Only once the directory is known to be this job's: a refused start leaves an earlier result as it is.
void JobFrame::write_rejects() {
  const std::string path = run_->file("rejects.jsonl");
  if (survey_.rejected == 0) {
    ::unlink(path.c_str());
    return;
  }
  core::publish_text(path, rejects_);
  core::log::warning("{} of {} rows are rejected; {} lists them with line and reason", survey_.rejected,
                     survey_.rows + survey_.rejected, path);
}

void JobFrame::watch() {
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

void JobFrame::request_stop(const std::string& reason) {
  if (stop_requested_.exchange(true)) return;
  if (on_stop_) on_stop_();
  if (request_.on_stop) request_.on_stop();
  if (is_root()) {
    core::log::info("{}: stopping after the batch in hand; run the same command again to go on", reason);
  }
  // The file tells the other ranks: a signal may have reached this one only.
  if (run_) comm::claim_once(run_->run_file("stop"));
}

void JobFrame::handle_signal(int signal) {
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

void JobFrame::die(const std::exception& error) {
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

// Where nothing is created: the nearest folder that exists must take new files.
void JobFrame::check_output_place() const {
  std::filesystem::path place = std::filesystem::absolute(config_.string("output.dir"));
  while (!std::filesystem::exists(place) && place.has_relative_path()) place = place.parent_path();
  if (!std::filesystem::is_directory(place))
    throw core::OutputError(fmt::format("{} is not a folder", place.string()));
  if (::access(place.c_str(), W_OK | X_OK) != 0) {
    throw core::OutputError(fmt::format("{} is not writable: {}; choose another output directory",
                                        place.string(), core::errno_text(errno)));
  }
}

// Everything that counts is published by now: whatever goes wrong here is a warning.
void JobFrame::write_report(const std::vector<std::string>& accounts) const {
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

std::string JobFrame::metric(const std::string& name, double value, const std::string& unit,
                             std::uint64_t step) const {
  return fmt::format(
      R"({{"ts":"{}","job":{},"phase":"{}","rank":{},"step":{},"name":"{}","value":{},"unit":"{}"}})"
      "\n",
      core::utc_now(), core::json_quote(start_utc_), request_.phase.name, world_.rank(), step, name,
      std::isfinite(value) ? fmt::format("{:.9g}", value) : "null", unit);
}

void JobFrame::check_disk(const std::string& directory, std::uint64_t needed) {
  const std::uint64_t free = core::free_disk_bytes(directory);
  if (free < needed) {
    throw core::OutputError(
        fmt::format("{} needs about {}, but its file system has {} free; free some space or choose another "
                    "output directory",
                    directory, core::human_bytes(static_cast<double>(needed)),
                    core::human_bytes(static_cast<double>(free))));
  }
}

void JobFrame::start_recorder(RankActivity who, const plan::CostModel& flops) {
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
  auto recorder = std::make_unique<Recorder>(
      Recorder::Config{.who = std::move(who),
                       .path = activity_file(run_->path(), world_.rank()),
                       .zero = start_,
                       .flops = flops,
                       .journal_seconds = [this] { return run_->commit_seconds_spent(); }});
  const std::lock_guard lock(signal_mutex_);
  recorder_ = std::move(recorder);
}

std::string JobFrame::fact(const std::string& name) const {
  const auto found = facts_.find(name);
  return found == facts_.end() ? "0" : found->second;
}

void JobFrame::append_metrics(const std::string& lines) const {
  const std::string path = run_->file("metrics.jsonl");
  const core::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd) throw core::OutputError(fmt::format("cannot open {}: {}", path, core::errno_text(errno)));
  core::write_all(fd.get(), lines, path);
}

void JobFrame::write_final_manifest(core::ExitCode code, std::vector<std::string> files) {
  facts_["exit_code"] = std::to_string(static_cast<int>(code));
  facts_["world_size"] = std::to_string(world_.size());
  facts_["host"] = session_.place().host;
  facts_["working_directory"] = std::filesystem::current_path().string();
  facts_["started_utc"] = start_utc_;
  facts_["finished_utc"] = core::utc_now();
  write_resolved();
  files.push_back("resolved.yaml");
  io::write_manifest(run_->path(), {.job = request_.phase.name,
                                    .command = request_.command,
                                    .identity = identity_,
                                    .files = files,
                                    .facts = facts_});
  run_->close_reopened();
}

core::ExitCode JobFrame::report_finished() {
  int code = 0;
  comm::collectively(world_, [&] {
    if (!is_root()) return;
    const auto manifest = io::read_manifest(run_->path());
    core::internal_check(manifest.has_value(), "a finished job has a manifest");
    facts_ = manifest->facts;
    code = std::stoi(fact("exit_code"));
    core::log::info("{} is finished already ({}): {}; --fresh starts over", run_->path(),
                    fact("finished_utc"), finished_text());
  });
  code = world_.broadcast_value<std::int32_t>(code);
  core::log::close_file();
  if (is_root() && code == 0) run_->remove_run_files();
  return static_cast<core::ExitCode>(code);
}

void JobFrame::close(core::ExitCode code) {
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
}

}  // namespace muster::phases
