// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/Functions.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "muster/formats/json.h"
#include "muster/formats/safetensors.h"

namespace muster::diffusion {

inline std::string fixture(const std::string& name) {
  const std::string here = __FILE__;
  return here.substr(0, here.rfind('/')) + "/fixtures/" + name;
}

/// A tensor of a fixture, in its own type.
inline at::Tensor tensor_of(const formats::Safetensors& file, const std::string& name) {
  const auto view = file.find(name);
  if (!view) throw std::runtime_error("no tensor " + name);
  const std::vector<std::int64_t> shape(view->shape.begin(), view->shape.end());
  at::Tensor out =
      at::empty(shape, view->dtype == formats::DType::kU8 ? c10::ScalarType::Byte : c10::ScalarType::Float);
  std::memcpy(out.data_ptr(), view->bytes.data(), view->bytes.size());
  return out;
}

inline std::span<const float> values_of(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
}

/// The largest difference, in units of the largest expected value; infinite for NaN.
inline double relative_difference(std::span<const float> computed, std::span<const float> expected) {
  if (computed.size() != expected.size()) return INFINITY;
  double most = 0, difference = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double apart = std::abs(static_cast<double>(computed[i]) - expected[i]);
    if (!(apart < INFINITY)) return INFINITY;
    difference = std::max(difference, apart);
    most = std::max(most, static_cast<double>(std::abs(expected[i])));
  }
  return difference / most;
}

}  // namespace muster::diffusion
