// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "muster/comm/watchdog.h"
#include "muster/phases/item_job.h"
#include "phases/runner/recorder.h"
#include "phases/runner/survey.h"

namespace muster::phases {

/// What every job does around its work, whatever its phase is: device, directory and lock, signals, watchdog,
/// the account for report.html, metrics, manifest.
class JobFrame {
 protected:
  JobFrame(comm::Session& session, const JobRequest& request);
  virtual ~JobFrame();
  JobFrame(const JobFrame&) = delete;
  JobFrame& operator=(const JobFrame&) = delete;
  /// From now on signals are taken. `on_stop` is called once, on another thread, when the job is asked to
  /// stop.
  void start_signals(std::function<void()> on_stop);
  /// In the destructor of a derived class, before its members go: no signal reaches them any more.
  void end_signals();

  // Before the work: every error here is agreed on by all ranks.
  void choose_device();
  void agree_on_hardware();
  int workers() const;
  void open_directory();
  /// Rank 0 looks at the whole input once; with --strict bad rows end the job.
  void survey();
  /// Rank 0, after the survey: what the job is, for "same command again".
  void make_identity(io::Identity of_phase);
  void write_resolved() const;
  void write_rejects();
  void check_output_place() const;
  /// OutputError when the file system of `directory` has less than `needed` bytes free.
  static void check_disk(const std::string& directory, std::uint64_t needed);
  void watch();
  /// `who` holds what only the job knows; names, host and times are filled in.
  void start_recorder(RankActivity who, const plan::CostModel& flops);

  // At the end.
  core::ExitCode report_finished();
  /// What a finished job says again, from the facts of its manifest.
  virtual std::string finished_text() const = 0;
  std::string metric(const std::string& name, double value, const std::string& unit,
                     std::uint64_t step = 0) const;
  /// Rank 0: more lines for metrics.jsonl.
  void append_metrics(const std::string& lines) const;
  /// Rank 0: adds the facts that every job has and writes resolved.yaml and manifest.json.
  void write_final_manifest(core::ExitCode code, std::vector<std::string> files);
  void write_report(const std::vector<std::string>& accounts) const;
  /// Collective, last: the watchdog goes; after success .run/ too.
  void close(core::ExitCode code);

  void request_stop(const std::string& reason);
  bool stop_requested() const { return stop_requested_; }
  /// A rank that fails in the middle: logs its cause, saves what is finished, ends the job.
  [[noreturn]] void die(const std::exception& error);
  bool is_root() const { return world_.is_root(); }
  std::string fact(const std::string& name) const;

  comm::Session& session_;
  comm::Communicator& world_;
  const JobRequest& request_;
  config::Config config_;
  device::Device device_;
  int workers_ = 1;
  double start_;
  std::string start_utc_;
  std::mutex signal_mutex_;  ///< held while the signal thread looks at run_, recorder_ and watchdog_, and
                             ///< while they change
  std::unique_ptr<io::RunDirectory> run_;
  std::unique_ptr<Recorder> recorder_;
  Survey survey_;
  std::string rejects_;  ///< lines of rejects.jsonl
  io::Identity identity_;
  std::map<std::string, std::string> facts_;

 private:
  void handle_signal(int signal);

  std::atomic<bool> stop_requested_{false};
  std::function<void()> on_stop_;

 protected:
  // Last, so that their threads, which use all of the above, start after it is there and end before it goes.
  std::unique_ptr<comm::Watchdog> watchdog_;
  std::unique_ptr<comm::SignalThread> signals_;
};

}  // namespace muster::phases
