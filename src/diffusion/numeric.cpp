// SPDX-License-Identifier: Apache-2.0
#include "diffusion/numeric.h"

#include <cmath>

namespace muster::diffusion {

std::vector<double> linspace(double first, double last, std::size_t count) {
  std::vector<double> out(count, first);
  const double step = count > 1 ? (last - first) / static_cast<double>(count - 1) : 0;
  for (std::size_t i = 1; i < count; ++i) out[i] = static_cast<double>(i) * step + first;
  if (count > 1) out.back() = last;
  return out;
}

std::vector<float> linspace_float(float first, float last, std::size_t count) {
  std::vector<float> out(count, first);
  if (count < 2) return out;
  const float step = (last - first) / static_cast<float>(count - 1);
  for (std::size_t i = 0; i < count; ++i)
    out[i] = i < count / 2 ? std::fma(step, static_cast<float>(i), first)
                           : std::fma(-step, static_cast<float>(count - 1 - i), last);
  return out;
}

std::vector<double> arange(double first, double last, double step) {
  const double length = std::ceil((last - first) / step);
  std::vector<double> out(length > 0 ? static_cast<std::size_t>(length) : 0);
  const double delta = (first + step) - first;
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = first + static_cast<double>(i) * delta;
  return out;
}

double interpolate(std::span<const float> values, double x) {
  if (!(x > 0)) return values.front();
  const auto low = static_cast<std::size_t>(x);
  if (low + 1 >= values.size()) return values.back();
  const double left = values[low], right = values[low + 1];
  return (right - left) * (x - static_cast<double>(low)) + left;
}

double round_even(double x) {
  const double floor = std::floor(x), rest = x - floor;
  if (rest < 0.5) return floor;
  if (rest > 0.5) return floor + 1;
  return std::fmod(floor, 2) == 0 ? floor : floor + 1;
}

}  // namespace muster::diffusion
