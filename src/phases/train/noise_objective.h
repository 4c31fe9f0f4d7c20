// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "muster/models/trainable_part.h"

namespace muster::phases {

enum class Prediction {
  kEpsilon,   ///< the noise (Ho et al., 2020)
  kVelocity,  ///< v of Salimans and Ho, 2022
  kFlow,      ///< the way from picture to noise along a straight line (Liu et al., 2023)
};
Prediction prediction_from_name(const std::string& name);  ///< "epsilon", "v", "flow"

struct ObjectiveConfig {
  Prediction prediction = Prediction::kEpsilon;
  bool zero_terminal_snr = false;  ///< the last step is noise alone (Lin et al., 2023)
  double min_snr_gamma = 0;        ///< weights of Hang et al., 2023; 0: all steps count alike
};

/// What a denoising model is asked for: noised latents, and what they should be answered with.
class NoiseObjective {
 public:
  static constexpr std::int64_t kSteps = 1000;
  explicit NoiseObjective(const ObjectiveConfig& config);

  struct Task {
    at::Tensor input, target;  ///< as the latents
    at::Tensor times;          ///< fp32 [n], what the model is told
    at::Tensor weights;        ///< fp32 [n], of each sample's mean squared error
  };
  /// `places` in [0, 1) choose the steps; latents and noise fp32 [n, ...] on the host.
  Task make(const at::Tensor& latents, const at::Tensor& noise, std::span<const float> places) const;
  models::SavedSchedule schedule() const;
  /// The share of signal, alpha_bar, at each step.
  const std::vector<double>& signal() const { return signal_; }

 private:
  double weight(double signal) const;
  ObjectiveConfig config_;
  std::vector<double> signal_;
};

}  // namespace muster::phases
