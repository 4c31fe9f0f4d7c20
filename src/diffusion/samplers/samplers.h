// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "diffusion/sampler.h"

/// One function a family; make_sampler() has checked the number of steps against the training steps.
namespace muster::diffusion {

std::unique_ptr<Sampler> make_ddim(const SchedulerConfig& config, std::uint32_t steps);
std::unique_ptr<Sampler> make_pndm(const SchedulerConfig& config, std::uint32_t steps);
std::unique_ptr<Sampler> make_euler(const SchedulerConfig& config, std::uint32_t steps);
std::unique_ptr<Sampler> make_euler_ancestral(const SchedulerConfig& config, std::uint32_t steps);
std::unique_ptr<Sampler> make_flow_euler(const SchedulerConfig& config, std::uint32_t steps);
std::unique_ptr<Sampler> make_dpm_solver(const SchedulerConfig& config, std::uint32_t steps);
std::unique_ptr<Sampler> make_unipc(const SchedulerConfig& config, std::uint32_t steps);

}  // namespace muster::diffusion
