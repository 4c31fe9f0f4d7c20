// SPDX-License-Identifier: Apache-2.0
// Compiled without errno for sqrt, or the compiler would not vectorise the loops, and without fused products:
// the same bits on every processor.
#include "training/update_kernels.h"

#include <array>
#include <cmath>

namespace muster::training {

void adamw_update(const RawStep& step, const RawRange& range) {
  float* __restrict p = range.parameters;
  float* __restrict m = range.first_moment;
  float* __restrict v = range.second_moment;
  const float* __restrict gradient = range.gradient;
  const RawStep s = step;
  for (std::size_t i = 0; i < range.count; ++i) {
    const float g = gradient[i] * s.gradient_factor;
    m[i] += s.one_minus_beta1 * (g - m[i]);
    v[i] = v[i] * s.beta2 + s.one_minus_beta2 * g * g;
    const float denominator = std::sqrt(v[i]) / s.root_correction2 + s.epsilon;
    p[i] = p[i] * s.decay - s.step_size * m[i] / denominator;
  }
}

void adamw_hf_update(const RawStep& step, const RawRange& range) {
  float* __restrict p = range.parameters;
  float* __restrict m = range.first_moment;
  float* __restrict v = range.second_moment;
  const float* __restrict gradient = range.gradient;
  const RawStep s = step;
  for (std::size_t i = 0; i < range.count; ++i) {
    const float g = gradient[i] * s.gradient_factor;
    m[i] = m[i] * s.beta1 + s.one_minus_beta1 * g;
    v[i] = v[i] * s.beta2 + s.one_minus_beta2 * g * g;
    const float moved = p[i] - s.step_size * m[i] / (std::sqrt(v[i]) + s.epsilon);
    p[i] = moved - s.decay * moved;
  }
}

void average_update(float* __restrict average, const float* __restrict values, float share,
                    std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) average[i] += share * (values[i] - average[i]);
}

double sum_of_squares(const float* values, std::size_t count) {
  // Eight sums side by side: as fast as memory, and one order whatever the vector width.
  constexpr std::size_t kLanes = 8;
  std::array<double, kLanes> sums{};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      sums[lane] += value * value;
    }
  }
  for (; i < count; ++i) sums[0] += static_cast<double>(values[i]) * values[i];
  double sum = 0;
  for (const double lane : sums) sum += lane;
  return sum;
}

}  // namespace muster::training
