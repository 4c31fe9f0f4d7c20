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
#include "phases/runner/job_frame.h"
#include "phases/runner/publish_rows.h"
#include "phases/runner/worker_pool.h"

namespace muster::phases {

/// One start of one item phase, step by step; run_item_job calls run().
class ItemJob : private JobFrame {
 public:
  ItemJob(comm::Session& session, const JobRequest& request);
  ~ItemJob();
  core::ExitCode run();

 private:
  // Before the work: every error here is agreed on by all ranks.
  void create_phase();
  void join_group();
  bool serves() const { return world_.rank() % group_size_ != 0; }  ///< helps another rank with its items
  std::vector<std::uint64_t> lost_rows();
  io::Opened open_run();
  core::ExitCode dry_run();
  void check_room(const std::string& directory);
  void begin_account();

  // The work: an error here ends the job from the rank that met it.
  enum class Outcome { kComplete, kStopped };
  Outcome compute();
  void publish();
  core::ExitCode finish(Outcome outcome);
  void write_failures();
  void write_metrics();
  void write_manifest(core::ExitCode code);
  std::string finished_text() const override;
  void summarize(core::ExitCode code) const;
  core::ExitCode final_code() const;

  std::unique_ptr<ItemPhase> phase_;
  int group_size_ = 1;  ///< ranks that work on an item together
  std::vector<RowStatus> status_;
  std::uint64_t done_before_ = 0;
  BatchQueue queue_;
  PoolTotals totals_;
  double load_seconds_ = 0;
  double compute_seconds_ = 0;
  double publish_seconds_ = 0;
  std::vector<std::string> files_;
  std::vector<std::uint64_t> failed_rows_;
  std::vector<double> busy_;  ///< busy seconds of every rank that gets items
  std::uint64_t items_done_ = 0, length_done_ = 0;
};

}  // namespace muster::phases
