// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "phases/runner/job_frame.h"
#include "phases/runner/progress.h"

namespace muster::phases {

/// One start of one step phase; run_step_job calls run().
class StepJob : private JobFrame {
 public:
  StepJob(comm::Session& session, const JobRequest& request);
  ~StepJob();
  core::ExitCode run();

 private:
  enum class Outcome { kComplete, kStopped };

  // Before the work: every error here is agreed on by all ranks.
  core::ExitCode dry_run();
  void resolve_once();
  std::string decision_file(const std::string& key) const;
  void create_phase();
  io::Opened open_run();
  void begin_account();

  // The work: an error here ends the job from the rank that met it.
  StepContext make_context();
  Outcome work();
  Outcome take_steps();
  void save();
  void publish();
  core::ExitCode finish(Outcome outcome);
  core::ExitCode final_code() const;
  std::string finished_text() const override;
  void note_batch(const MicroBatchNote& note);

  std::unique_ptr<StepPhase> phase_;
  std::unique_ptr<StepContext> context_;
  std::unique_ptr<ProgressLine> progress_;
  std::map<std::string, std::string> decided_;  ///< values of keys that the first start's ranks decide
  std::vector<std::string> files_;
  double last_save_ = 0;
  double save_seconds_ = 0, load_seconds_ = 0, compute_seconds_ = 0, publish_seconds_ = 0;
  std::uint64_t saves_ = 0, steps_before_ = 0, items_before_ = 0;
};

}  // namespace muster::phases
