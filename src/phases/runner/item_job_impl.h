// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "muster/comm/watchdog.h"
#include "muster/phases/item_job.h"
#include "phases/runner/batch_queue.h"
#include "phases/runner/publish_rows.h"
#include "phases/runner/recorder.h"
#include "phases/runner/survey.h"
#include "phases/runner/worker_pool.h"

namespace muster::phases {

/// One start of one item phase, step by step; run_item_job calls run().
class ItemJob {
 public:
  ItemJob(comm::Session& session, const JobRequest& request);
  ~ItemJob();
  core::ExitCode run();

 private:
  // Before the work: every error here is agreed on by all ranks.
  void choose_device();
  void agree_on_hardware();
  void create_phase();
  void open_directory();
  void survey();
  io::Opened open_run();
  core::ExitCode report_finished();
  core::ExitCode dry_run();
  void write_resolved() const;
  void write_rejects();
  void check_disk(const std::string& directory);
  void check_output_place() const;
  void watch();
  void start_recorder();

  // The work: an error here ends the job from the rank that met it.
  enum class Outcome { kComplete, kStopped };
  Outcome compute();
  void publish();
  core::ExitCode finish(Outcome outcome);
  void write_failures();
  void write_metrics();
  void write_final_manifest(core::ExitCode code);
  void summarize(core::ExitCode code) const;
  void write_report(const std::vector<std::string>& accounts) const;
  core::ExitCode final_code() const;

  void handle_signal(int signal);
  void request_stop(const std::string& reason);
  [[noreturn]] void die(const std::exception& error);
  bool is_root() const { return world_.is_root(); }
  std::string metric(const std::string& name, double value, const std::string& unit) const;

  comm::Session& session_;
  comm::Communicator& world_;
  const JobRequest& request_;
  config::Config config_;
  device::Device device_;
  int workers_ = 1;
  double start_;
  std::string start_utc_;
  std::unique_ptr<ItemPhase> phase_;
  std::mutex signal_mutex_;  ///< held while the signal thread looks at run_, recorder_ and watchdog_, and
                             ///< while they change
  std::unique_ptr<io::RunDirectory> run_;
  std::unique_ptr<Recorder> recorder_;
  Survey survey_;
  std::string rejects_;  ///< lines of rejects.jsonl
  io::Identity identity_;
  std::vector<RowStatus> status_;
  std::uint64_t done_before_ = 0;
  BatchQueue queue_;
  PoolTotals totals_;
  double load_seconds_ = 0;
  double compute_seconds_ = 0;
  double publish_seconds_ = 0;
  std::vector<std::string> files_;
  std::map<std::string, std::string> facts_;
  std::vector<std::uint64_t> failed_rows_;
  std::vector<double> busy_;  ///< busy seconds of every rank
  std::uint64_t items_done_ = 0, length_done_ = 0;
  // Last, so that their threads, which use all of the above, start after it is there and end before it goes.
  std::unique_ptr<comm::Watchdog> watchdog_;
  std::unique_ptr<comm::SignalThread> signals_;
};

}  // namespace muster::phases
