// SPDX-License-Identifier: Apache-2.0
// Floats and doubles stand where diffusers' schedulers have them: small differences of large numbers follow.
#include "diffusion/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "diffusion/numeric.h"

namespace muster::diffusion {
namespace {

std::vector<float> squared_cosine_betas(std::uint32_t count) {
  const auto share = [](double t) {
    const double c = std::cos((t + 0.008) / 1.008 * std::numbers::pi / 2);
    return c * c;
  };
  std::vector<float> betas(count);
  for (std::uint32_t i = 0; i < count; ++i)
    betas[i] = static_cast<float>(std::min(1 - share((i + 1.0) / count) / share(1.0 * i / count), 0.999));
  return betas;
}

std::vector<float> betas_of(const SchedulerConfig& config) {
  if (!config.trained_betas.empty()) return config.trained_betas;
  if (config.beta_schedule == BetaSchedule::kSquaredCosine) return squared_cosine_betas(config.train_steps);
  const bool scaled = config.beta_schedule == BetaSchedule::kScaledLinear;
  const double first = scaled ? std::sqrt(config.beta_start) : config.beta_start;
  const double last = scaled ? std::sqrt(config.beta_end) : config.beta_end;
  auto betas = linspace_float(static_cast<float>(first), static_cast<float>(last), config.train_steps);
  if (scaled)
    for (float& beta : betas) beta *= beta;
  return betas;
}

std::vector<float> products(const std::vector<float>& betas) {
  std::vector<float> out;
  double product = 1;
  for (const float beta : betas) {
    product *= 1.0F - beta;
    out.push_back(static_cast<float>(product));
  }
  return out;
}

/// Lin et al., 2023, algorithm 1.
std::vector<float> rescaled_to_zero_snr(const std::vector<float>& betas) {
  std::vector<float> roots = products(betas);
  for (float& value : roots) value = std::sqrt(value);
  const float first = roots.front(), last = roots.back();
  for (float& value : roots) value = (value - last) * (first / (first - last));
  std::vector<float> out;
  for (std::size_t i = 0; i < roots.size(); ++i) {
    const float share = roots[i] * roots[i];
    out.push_back(1.0F - (i == 0 ? share : share / (roots[i - 1] * roots[i - 1])));
  }
  return out;
}

std::vector<float> training_sigmas(const std::vector<float>& shares) {
  std::vector<float> sigmas;
  for (const float share : shares) sigmas.push_back(std::sqrt((1.0F - share) / share));
  return sigmas;
}

/// From the noisiest on; `points` numbers from the first training step to the last, both included.
std::vector<double> evenly_spaced(const SchedulerConfig& config, std::uint32_t last, std::size_t points) {
  std::vector<double> out;
  if (config.spacing == Spacing::kLinspace) {
    out = linspace(0, last - 1.0, points);
  } else {
    const auto ratio = static_cast<double>(last / points);
    for (std::size_t i = 0; i < points; ++i) out.push_back(static_cast<double>(i) * ratio);
  }
  std::ranges::reverse(out);
  return out;
}

void add_offset(const SchedulerConfig& config, std::vector<double>& times) {
  if (config.spacing != Spacing::kLeading) return;
  for (double& time : times) time += static_cast<double>(config.steps_offset);
}

/// Rounding may make one time too many, before the first training step; it is left out.
std::vector<double> trailing(const SchedulerConfig& config, std::uint32_t last, std::uint32_t steps) {
  auto out = arange(last, 0, -(static_cast<double>(config.train_steps) / steps));
  for (double& time : out) time = round_even(time) - 1;
  if (out.size() > steps) out.resize(steps);
  return out;
}

std::vector<double> euler_times(const SchedulerConfig& config, std::uint32_t steps) {
  if (config.spacing == Spacing::kTrailing) return trailing(config, config.train_steps, steps);
  auto out = evenly_spaced(config, config.train_steps, steps);
  for (double& time : out) time = static_cast<float>(time);
  add_offset(config, out);
  return out;
}

/// Training steps whose lambda = log(signal / noise) is at least lambda_min_clipped.
std::uint32_t unclipped_steps(const SchedulerConfig& config, const std::vector<float>& shares) {
  auto count = static_cast<std::uint32_t>(shares.size());
  if (config.kind != SamplerKind::kDpmSolver) return count;
  const auto lambda = [&](std::uint32_t i) {
    return std::log(std::sqrt(shares[i])) - std::log(std::sqrt(1.0F - shares[i]));
  };
  while (count > 1 && lambda(count - 1) < config.lambda_min_clipped) --count;
  return count;
}

std::vector<double> solver_times(const SchedulerConfig& config, std::uint32_t last, std::uint32_t steps) {
  if (config.spacing == Spacing::kTrailing) return trailing(config, last, steps);
  auto out = evenly_spaced(config, last, steps + std::size_t{1});
  out.pop_back();
  for (double& time : out) time = round_even(time);
  add_offset(config, out);
  return out;
}

/// The training step of a noise level, between two of them.
double time_of(double sigma, const std::vector<float>& log_sigmas) {
  const double log_sigma = std::log(std::max(sigma, 1e-10));
  std::size_t low = 0;
  for (std::size_t i = 0; i < log_sigmas.size(); ++i)
    if (log_sigma - log_sigmas[i] >= 0) low = i;
  low = std::min(low, log_sigmas.size() - 2);
  const float width = log_sigmas[low] - log_sigmas[low + 1];
  const double w = std::clamp((log_sigmas[low] - log_sigma) / width, 0.0, 1.0);
  return (1 - w) * static_cast<double>(low) + w * static_cast<double>(low + 1);
}

/// `count` noise levels between two, spread as `config` says.
std::vector<double> spread(const SchedulerConfig& config, double most, double least, std::size_t count) {
  const double sigma_max = config.sigma_max.value_or(most), sigma_min = config.sigma_min.value_or(least);
  if (config.sigmas == Sigmas::kKarras) {  // Karras et al., 2022, equation 5
    constexpr double kRho = 7;
    const double from = std::pow(sigma_max, 1 / kRho), to = std::pow(sigma_min, 1 / kRho);
    auto out = linspace(0, 1, count);
    for (double& value : out) value = std::pow(from + value * (to - from), kRho);
    return out;
  }
  // Evenly in the logarithm. Lu's between the training levels' own logarithms, which are floats: time_of()
  // finds the first and the last of them exactly.
  const auto own_log = [](double level) { return double{std::log(static_cast<float>(level))}; };
  auto out = config.sigmas == Sigmas::kLu ? linspace(own_log(most), own_log(least), count)
                                          : linspace(std::log(sigma_max), std::log(sigma_min), count);
  for (double& value : out) value = std::exp(value);
  return out;
}

/// Solvers tell the model whole training steps: of spread levels the nearest, or the one before.
double whole_step(const SchedulerConfig& config, double time) {
  const bool nearest =
      config.kind == SamplerKind::kUniPc
          ? config.sigmas == Sigmas::kKarras
          : config.sigmas != Sigmas::kExponential && config.beta_schedule != BetaSchedule::kSquaredCosine;
  return std::trunc(nearest ? round_even(time) : time);
}

std::vector<float> logarithms(const std::vector<float>& values) {
  std::vector<float> out;
  for (const float value : values) out.push_back(std::log(value));
  return out;
}

std::vector<float> to_floats(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

std::vector<double> euler_sigmas(const SchedulerConfig& config, const std::vector<float>& training,
                                 const std::vector<double>& times) {
  std::vector<double> out;
  if (config.log_linear) {
    const float first = std::log(training.back()), last = std::log(training.front());
    for (const float value : linspace_float(first, last, times.size() + 1)) out.push_back(std::exp(value));
    return out;
  }
  for (const double time : times) out.push_back(interpolate(training, time));
  return out;
}

}  // namespace

std::vector<float> signal_shares(const SchedulerConfig& config) {
  std::vector<float> betas = betas_of(config);
  if (config.zero_terminal_snr) betas = rescaled_to_zero_snr(betas);
  std::vector<float> shares = products(betas);
  // The first sigma is not to be infinite: the smallest half-precision number instead of 0.
  if (config.zero_terminal_snr && config.kind != SamplerKind::kDdim) shares.back() = 0x1p-24F;
  return shares;
}

NoiseLevels noise_levels(const SchedulerConfig& config, const std::vector<float>& shares,
                         std::uint32_t steps) {
  const bool solver = config.kind == SamplerKind::kDpmSolver || config.kind == SamplerKind::kUniPc;
  const std::vector<float> training = training_sigmas(shares), log_sigmas = logarithms(training);
  std::vector<double> times =
      solver ? solver_times(config, unclipped_steps(config, shares), steps) : euler_times(config, steps);
  std::vector<double> sigmas = euler_sigmas(config, training, times);
  double last = config.final_sigma == FinalSigma::kZero ? 0 : training.front();
  if (config.sigmas != Sigmas::kTraining) {
    sigmas = solver ? spread(config, training.back(), training.front(), steps)
                    : spread(config, sigmas.front(), sigmas.back(), steps);
    times.clear();
    for (const double sigma : sigmas) {
      const double time = time_of(sigma, log_sigmas);
      times.push_back(solver ? whole_step(config, time) : time);
    }
    if (config.kind == SamplerKind::kUniPc && config.final_sigma == FinalSigma::kSmallest)
      last = sigmas.back();
  }
  sigmas.push_back(last);
  NoiseLevels out{to_floats(times), to_floats(sigmas)};
  if (config.continuous_times)
    for (std::size_t i = 0; i < out.times.size(); ++i) out.times[i] = 0.25F * std::log(out.sigmas[i]);
  return out;
}

NoiseLevels flow_levels(const SchedulerConfig& config, std::uint32_t steps) {
  const double train = config.train_steps;
  const auto shift = static_cast<float>(config.shift), more = static_cast<float>(config.shift - 1);
  const auto shifted = [&](float sigma) { return shift * sigma / (1.0F + more * sigma); };
  const double most = shifted(1), least = shifted(1.0F / static_cast<float>(train));
  auto sigmas = linspace(most * train, least * train, steps);
  for (double& sigma : sigmas) {
    sigma /= train;
    sigma = config.shift * sigma / (1 + (config.shift - 1) * sigma);
  }
  if (config.shift_terminal) {
    const double scale = (1 - sigmas.back()) / (1 - *config.shift_terminal);
    for (double& sigma : sigmas) sigma = 1 - (1 - sigma) / scale;
  }
  if (config.sigmas != Sigmas::kTraining) sigmas = spread(config, sigmas.front(), sigmas.back(), steps);
  NoiseLevels out{{}, to_floats(sigmas)};
  for (const float sigma : out.sigmas) out.times.push_back(sigma * static_cast<float>(train));
  out.sigmas.push_back(0);
  return out;
}

std::vector<std::int64_t> visited_steps(const SchedulerConfig& config, std::uint32_t steps) {
  std::vector<double> times;
  if (config.spacing == Spacing::kTrailing) {
    times = trailing(config, config.train_steps, steps);
  } else {
    times = evenly_spaced(config, config.train_steps, steps);
    for (double& time : times) time = round_even(time);
    add_offset(config, times);
  }
  return {times.begin(), times.end()};
}

}  // namespace muster::diffusion
