// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/adapter.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "muster/core/error.h"
#include "nn/live_adapters.h"

namespace muster::nn {
namespace {

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

at::Tensor fp32(const at::Tensor& x) {
  return x.to(c10::ScalarType::Float);
}

// scale * up down in the weight's shape.
at::Tensor change(const LowRank& adapter, at::IntArrayRef shape) {
  return (at::mm(fp32(adapter.up).flatten(1), fp32(adapter.down).flatten(1)) * adapter.scale).view(shape);
}

// [rank, in ..] for a weight [out, in ..]; a product of pixels one by one is a product of rows.
bool fits_down(at::IntArrayRef down, std::span<const std::int64_t> weight) {
  if (down.size() < 2 || down.size() > 4 || down[1] != weight[1]) return false;
  for (std::size_t d = 2; d < std::max(down.size(), weight.size()); ++d)
    if ((d < down.size() ? down[d] : 1) != (d < weight.size() ? weight[d] : 1)) return false;
  return true;
}

bool fits_up(at::IntArrayRef up, std::int64_t out, std::int64_t rank) {
  if (up.size() < 2 || up[0] != out || up[1] != rank) return false;
  for (std::size_t d = 2; d < up.size(); ++d)
    if (up[d] != 1) return false;
  return true;
}

}  // namespace

std::string misfit(const LowRank& adapter, std::span<const std::int64_t> weight_shape) {
  const auto down = adapter.down.sizes(), up = adapter.up.sizes();
  if (!fits_down(down, weight_shape))
    return fmt::format("the down factor is {}, which does not fit the weight {}", shape_text(down),
                       shape_text(weight_shape));
  if (!fits_up(up, weight_shape[0], down[0]))
    return fmt::format("the up factor is {}, which does not fit the weight {} and the rank {}",
                       shape_text(up), shape_text(weight_shape), down[0]);
  if (!adapter.magnitude.defined()) return {};
  const bool of_outputs = adapter.magnitude_of == MagnitudeOf::kOutputs;
  if (adapter.magnitude.numel() != weight_shape[of_outputs ? 0 : 1])
    return fmt::format("the magnitude is {}, which does not fit the {} of the weight {}",
                       shape_text(adapter.magnitude.sizes()), of_outputs ? "outputs" : "inputs",
                       shape_text(weight_shape));
  return {};
}

at::Tensor magnitude_factor(const at::Tensor& weight, const LowRank& adapter) {
  const std::int64_t kept = adapter.magnitude_of == MagnitudeOf::kOutputs ? 0 : 1;
  std::vector<std::int64_t> summed, shape(static_cast<std::size_t>(weight.dim()), 1);
  for (std::int64_t d = 0; d < weight.dim(); ++d)
    if (d != kept) summed.push_back(d);
  shape[static_cast<std::size_t>(kept)] = weight.size(kept);
  const at::Tensor changed = fp32(weight) + change(adapter, weight.sizes());
  // A row of zeros stays one.
  constexpr double kLeast = 1e-7;
  const at::Tensor norm = at::linalg_vector_norm(changed, 2, summed, /*keepdim=*/true).clamp_min(kLeast);
  return fp32(adapter.magnitude).reshape(shape) / norm;
}

at::Tensor merged(const at::Tensor& weight, std::span<const LowRank> adapters) {
  at::Tensor out = fp32(weight);
  for (const LowRank& adapter : adapters) {
    if (const std::string problem = misfit(adapter, weight.sizes()); !problem.empty())
      throw core::DataError("adapter: " + problem);
    out = out + change(adapter, weight.sizes());
    if (adapter.magnitude.defined()) out = out * magnitude_factor(weight, adapter);
  }
  return out;
}

at::Tensor merged(const at::Tensor& weight, const LowRank& adapter) {
  return merged(weight, {&adapter, 1});
}

}  // namespace muster::nn
