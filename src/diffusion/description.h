// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "diffusion/scheduler_config.h"
#include "muster/models/diffusion_folder.h"

namespace muster::diffusion {

SchedulerSource scheduler_source(const models::DiffusionFolder& folder);

}  // namespace muster::diffusion
