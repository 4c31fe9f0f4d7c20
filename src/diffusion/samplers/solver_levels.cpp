// SPDX-License-Identifier: Apache-2.0
#include "diffusion/samplers/solver_levels.h"

#include <ATen/TensorOperators.h>

#include <fmt/format.h>

#include <cmath>

#include "muster/core/error.h"

namespace muster::diffusion {

SolverLevels::SolverLevels(const SchedulerConfig& config, std::uint32_t steps)
    : levels_(noise_levels(config, signal_shares(config), steps)) {
  for (std::size_t i = 0; i + 2 < levels_.sigmas.size(); ++i)  // the last step may stand still
    if (!(levels_.sigmas[i] > levels_.sigmas[i + 1]))
      throw core::ConfigError(fmt::format(
          "in {} steps the noise does not fall from step {} to step {}, which this sampler needs; "
          "ask for fewer steps or another sampler",
          steps, i + 1, i + 2));
}

Level SolverLevels::at(std::size_t index) const {
  const float sigma = levels_.sigmas.at(index);
  const float signal = 1.0F / std::sqrt(sigma * sigma + 1.0F), noise = sigma * signal;
  return {signal, noise, std::log(signal) - std::log(noise)};
}

at::Tensor predicted_picture(Prediction prediction, const at::Tensor& output, const at::Tensor& sample,
                             const Level& level) {
  switch (prediction) {
    case Prediction::kEpsilon:
      return (sample - output * level.noise) / level.signal;
    case Prediction::kVelocity:
      return sample * level.signal - output * level.noise;
    case Prediction::kSample:
      break;
  }
  return output;
}

}  // namespace muster::diffusion
