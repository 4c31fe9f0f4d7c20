// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <string>

#include "muster/comm/session.h"
#include "muster/config/schema.h"
#include "muster/core/error.h"
#include "muster/phases/item_phase.h"

namespace muster::phases {

struct JobRequest {
  const PhaseInfo& phase;
  config::Config config;  ///< the same on every rank
  std::string command;    ///< as typed
  bool dry_run = false;
  bool fresh = false;
  bool retry_failed = false;
  bool keep_segments = false;
  /// Called once, on another thread, when the job is asked to stop: a pipeline begins nothing new then, even
  /// where the job in hand was just finished. May be empty.
  std::function<void()> on_stop = {};
};

/// Whether the CPUs of all ranks multiply bf16 in hardware; emulated bf16 is a hundred times slower.
enum class CpuBf16 { kInHardware, kEmulated };
/// Replaces `auto` by values that depend on the device type and dtype alone, so that they are the same on
/// every start.
void resolve_auto(config::Config& config, device::Kind kind, CpuBf16 bf16);

/// Runs one item phase over all ranks of the session: survey, lock, resume, compute, publish. Collective;
/// returns the same exit code on every rank. Errors before the work starts are agreed on and thrown on every
/// rank; a rank that fails in the middle logs its cause, saves what is finished and aborts the job.
core::ExitCode run_item_job(comm::Session& session, const JobRequest& request);
/// The same for a step phase: survey, lock, restore, steps with checkpoints between them, publish.
core::ExitCode run_step_job(comm::Session& session, const JobRequest& request);
/// Whichever the phase is.
core::ExitCode run_job(comm::Session& session, const JobRequest& request);

}  // namespace muster::phases
