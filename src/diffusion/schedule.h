// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <vector>

#include "diffusion/scheduler_config.h"

namespace muster::diffusion {

/// The share of signal that is left at every training step, [train_steps].
std::vector<float> signal_shares(const SchedulerConfig& config);

/// Model calls of a sampler that steps over noise levels: `times` holds what the model is told, `sigmas` one
/// more: where the last step leads.
struct NoiseLevels {
  std::vector<float> times, sigmas;
};

/// Of Euler, Euler ancestral, DPM-Solver++ and UniPC. `shares` as signal_shares() gives them.
NoiseLevels noise_levels(const SchedulerConfig& config, const std::vector<float>& shares,
                         std::uint32_t steps);
/// Of flow matching: sigma is the share of noise.
NoiseLevels flow_levels(const SchedulerConfig& config, std::uint32_t steps);
/// Of DDIM and PNDM: the training steps that are visited, the noisiest first.
std::vector<std::int64_t> visited_steps(const SchedulerConfig& config, std::uint32_t steps);

}  // namespace muster::diffusion
