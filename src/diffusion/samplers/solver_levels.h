// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

#include "diffusion/samplers/samplers.h"
#include "diffusion/schedule.h"

namespace muster::diffusion {

/// A noise level as multistep solvers see it: sample = signal * picture + noise * error.
struct Level {
  float signal, noise;
  float lambda;  ///< log(signal / noise); infinite where there is no noise
};

/// The levels of DPM-Solver++ and UniPC. ConfigError when two of them fall together.
class SolverLevels {
 public:
  SolverLevels(const SchedulerConfig& config, std::uint32_t steps);
  std::size_t steps() const { return levels_.times.size(); }
  const std::vector<float>& times() const { return levels_.times; }
  Level at(std::size_t index) const;

 private:
  NoiseLevels levels_;
};

/// The predicted picture, from whatever the model predicts.
at::Tensor predicted_picture(Prediction prediction, const at::Tensor& output, const at::Tensor& sample,
                             const Level& level);

}  // namespace muster::diffusion
