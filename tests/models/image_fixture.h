// SPDX-License-Identifier: Apache-2.0
// What the tests of image models share.
#pragma once
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "models/fixture.h"
#include "muster/formats/json.h"
#include "muster/models/diffusion_folder.h"

namespace muster::models {

/// The tiny pipelines that tests/diffusion/generate_pipelines.py wrote.
inline std::string pipeline_folder(const std::string& name) {
  return (fixture_root() / "../../diffusion/fixtures" / name).lexically_normal().string();
}

/// A tensor of a fixture, as fp32.
inline at::Tensor tensor_of(const formats::Safetensors& file, const std::string& name) {
  const auto view = file.find(name);
  if (!view) throw std::runtime_error(fmt::format("{} lacks {}", file.files().at(0), name));
  std::vector<std::int64_t> sizes(view->shape.begin(), view->shape.end());
  const bool half = view->dtype == formats::DType::kF16;
  at::Tensor out = at::empty(sizes, half ? at::kHalf : at::kFloat);
  std::memcpy(out.data_ptr(), view->bytes.data(), view->bytes.size());
  return out.to(at::kFloat);
}

/// The largest difference over the largest expected value.
inline double relative_difference(const at::Tensor& a, const at::Tensor& expected) {
  if (a.sizes() != expected.sizes()) return INFINITY;
  const at::Tensor most = (a.to(at::kFloat) - expected).abs().max() / expected.abs().max();
  const auto value = most.item<double>();
  return std::isnan(value) ? INFINITY : value;
}

inline bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && at::equal(a.contiguous(), b.contiguous());
}

}  // namespace muster::models
