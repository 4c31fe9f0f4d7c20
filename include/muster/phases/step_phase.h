// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "muster/comm/session.h"
#include "muster/io/run_directory.h"

namespace muster::phases {

struct Survey;

/// A micro-batch of a worker, for the account of the job.
struct MicroBatchNote {
  int worker = 0;
  double begin = 0, end = 0;  ///< monotonic seconds
  std::vector<std::uint32_t> lengths;
};

/// What the runner lends a phase for as long as a job runs.
struct StepContext {
  comm::Session& session;
  comm::Communicator& world;
  io::RunDirectory& run;
  const Survey& survey;  ///< of the input; what it counts is known on every rank, the rest on rank 0
  int workers = 1;       ///< threads of this rank
  /// For the watchdog: what this rank does now, or what it waits for in the hands of the others.
  std::function<void(const std::string&)> begins, waits;
  std::function<void(int worker)> batch_begins;           ///< from any worker
  std::function<void(const MicroBatchNote&)> batch_done;  ///< likewise
  /// A line of metrics.jsonl. Rank 0; nothing elsewhere.
  std::function<void(const std::string& name, double value, const std::string& unit, std::uint64_t step)>
      metric;
  std::map<std::string, std::string>& facts;  ///< rank 0's go to summary and manifest
};

/// What a step phase says of a plan; config files and input alone, no weights.
struct StepPlan {
  std::string text;       ///< a table for people
  double rank_bytes = 0;  ///< host memory of a rank
};

/// A phase that works on a state in steps that all ranks take together: train, distill. Constructed on every
/// rank, before MPI for `plan`.
class StepPhase {
 public:
  virtual ~StepPhase() = default;
  /// What the result depends on besides keys and input. Rank 0, after the survey.
  virtual io::Identity identity() const = 0;
  virtual StepPlan plan(int ranks, int workers) const = 0;
  /// Bytes on disk of a finished job and its checkpoints.
  virtual std::uint64_t disk_bytes() const = 0;
  /// Reads every file that start() will need, as far as one rank can check it alone.
  virtual void check() = 0;
  /// Collective: loads data and model, and goes on from the newest checkpoint.
  virtual void start(StepContext& context) = 0;
  /// The same on every rank, as all of the following.
  virtual bool finished() const = 0;
  virtual std::uint64_t steps_done() const = 0;
  virtual std::uint64_t steps_total() const = 0;
  /// Items worked on in all steps (an epoch counts every item once), by all ranks; known after start().
  virtual std::uint64_t items_done() const = 0;
  virtual std::uint64_t items_total() const = 0;
  /// Collective: one step, with whatever is due behind it (an evaluation at the end of an epoch).
  virtual void step() = 0;
  /// Collective: everything that a later start needs to go on exactly here.
  virtual void save() = 0;
  /// Whether the phase's own rule wants a checkpoint now; the runner saves by time, too.
  virtual bool wants_checkpoint() const = 0;
  /// Collective: writes the result; its files, relative to the output directory.
  virtual std::vector<std::string> publish() = 0;
  /// One line about the result for the log.
  virtual std::string summary() const = 0;
};

}  // namespace muster::phases
