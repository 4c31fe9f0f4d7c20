// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "diffusion/samplers/samplers.h"
#include "muster/core/error.h"

namespace muster::diffusion {

std::unique_ptr<Sampler> make_sampler(const SchedulerConfig& config, std::uint32_t steps) {
  if (steps < 1 || steps > config.train_steps)
    throw core::ConfigError(fmt::format(
        "{} steps are asked for; this model takes 1 to {} (num_train_timesteps)", steps, config.train_steps));
  switch (config.kind) {
    case SamplerKind::kDdim:
      return make_ddim(config, steps);
    case SamplerKind::kPndm:
      return make_pndm(config, steps);
    case SamplerKind::kEuler:
      return make_euler(config, steps);
    case SamplerKind::kEulerAncestral:
      return make_euler_ancestral(config, steps);
    case SamplerKind::kDpmSolver:
      return make_dpm_solver(config, steps);
    case SamplerKind::kUniPc:
      return make_unipc(config, steps);
    case SamplerKind::kFlowEuler:
      return make_flow_euler(config, steps);
  }
  throw core::InternalError("unknown sampler");
}

}  // namespace muster::diffusion
