// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/phases/item_job.h"

namespace muster::phases {

/// One start of the pipeline: every stage that is not finished, one job after the other.
core::ExitCode run_teleclass(comm::Session& session, const JobRequest& request);
std::string teleclass_plan(const config::Config& config, int ranks);

}  // namespace muster::phases
