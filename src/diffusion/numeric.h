// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <span>
#include <vector>

/// The few array functions that schedules are defined with, rounding as numpy's do.
namespace muster::diffusion {

/// `count` numbers from `first` to `last`, both included.
std::vector<double> linspace(double first, double last, std::size_t count);
/// The same in floats, as LibTorch rounds it: from both ends, product and sum fused.
std::vector<float> linspace_float(float first, float last, std::size_t count);
/// From `first` on in steps of `step`, the end `last` excluded.
std::vector<double> arange(double first, double last, double step);
/// The piecewise linear function through (i, values[i]), constant outside.
double interpolate(std::span<const float> values, double x);
/// Half to even.
double round_even(double x);

}  // namespace muster::diffusion
