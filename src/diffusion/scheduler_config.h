// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "muster/formats/json.h"

namespace muster::diffusion {

enum class SamplerKind : std::uint8_t {
  kDdim,
  kPndm,
  kEuler,
  kEulerAncestral,
  kDpmSolver,
  kUniPc,
  kFlowEuler
};
enum class BetaSchedule : std::uint8_t { kLinear, kScaledLinear, kSquaredCosine };
enum class Prediction : std::uint8_t { kEpsilon, kVelocity, kSample };
enum class Spacing : std::uint8_t { kLeading, kTrailing, kLinspace };
enum class Sigmas : std::uint8_t { kTraining, kKarras, kExponential, kLu };
enum class FinalSigma : std::uint8_t { kZero, kSmallest };
/// How DPM-Solver++ weighs the second-order term; UniPC's B(h).
enum class SolverType : std::uint8_t { kMidpoint, kHeun, kBh1, kBh2 };
enum class Algorithm : std::uint8_t { kOde, kSde };

/// A pipeline's habits, which decide what a scheduler's config means in it.
enum class SchedulerHome : std::uint8_t {
  kStableDiffusion,  ///< sets steps_offset to 1 and clip_sample to false, as its reference does
  kStableDiffusionXL,
};

/// diffusers' scheduler_config.json, as one of its scheduler classes reads it. Keys that the class knows and
/// we do not compute are refused by name; the others are ignored, as there.
struct SchedulerConfig {
  SamplerKind kind = SamplerKind::kDdim;
  std::uint32_t train_steps = 1000;
  double beta_start = 0.0001, beta_end = 0.02;
  BetaSchedule beta_schedule = BetaSchedule::kLinear;
  std::vector<float> trained_betas;  ///< instead of the three above, where there are any
  bool zero_terminal_snr = false;
  Prediction prediction = Prediction::kEpsilon;
  Spacing spacing = Spacing::kLeading;
  std::int64_t steps_offset = 0;
  // DDIM, PNDM
  bool alpha_to_one = true;
  std::optional<double> clip_range;  ///< of the predicted sample
  // those that step over sigmas
  Sigmas sigmas = Sigmas::kTraining;
  std::optional<double> sigma_min, sigma_max;
  FinalSigma final_sigma = FinalSigma::kZero;
  bool log_linear = false;        ///< interpolation_type
  bool continuous_times = false;  ///< timestep_type
  // DPM-Solver++, UniPC
  std::uint32_t solver_order = 2;
  SolverType solver_type = SolverType::kMidpoint;
  Algorithm algorithm = Algorithm::kOde;
  bool lower_order_final = true, euler_at_final = false;
  double lambda_min_clipped = -1e300;
  bool predict_sample = true;  ///< predict_x0
  std::vector<std::int64_t> disable_corrector;
  // flow matching
  double shift = 1;
  std::optional<double> shift_terminal;
};

/// What a pipeline folder says about its scheduler.
struct SchedulerSource {
  formats::JsonValue config;
  std::string class_name;  ///< "EulerDiscreteScheduler"
  SchedulerHome home = SchedulerHome::kStableDiffusion;
};

/// What the folder's own scheduler is among those names, "" when it is none of them.
std::string sampler_name_of(const SchedulerSource& source);
/// The folder's own scheduler when `sampler` is empty, otherwise that of the name with the folder's options:
/// what is not in the file has the named class's default. ConfigError for a name that is not known or does
/// not fit, DataError for the file.
SchedulerConfig read_scheduler(const SchedulerSource& source, const std::string& sampler);

}  // namespace muster::diffusion
