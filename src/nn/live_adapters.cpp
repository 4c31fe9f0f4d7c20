// SPDX-License-Identifier: Apache-2.0
#include "nn/live_adapters.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <vector>

#include "muster/core/error.h"

namespace muster::nn {
namespace {

at::Tensor fp32(const at::Tensor& x) {
  return x.to(c10::ScalarType::Float);
}

// Multiplies the columns of every factor [rank, in * kernel * kernel] by what belongs to their input channel.
void scale_inputs(std::vector<at::Tensor>& downs, const at::Tensor& factor) {
  const std::int64_t in = factor.size(1);
  for (at::Tensor& down : downs)
    down = (down.view({down.size(0), in, -1}) * factor.view({1, in, 1})).flatten(1);
}

void scale_outputs(std::vector<at::Tensor>& ups, const at::Tensor& factor) {
  for (at::Tensor& up : ups) up = up * factor.view({-1, 1});
}

}  // namespace

at::Tensor LiveAdapters::scaled(const at::Tensor& weight) const {
  return factor.defined() ? fp32(weight) * factor : weight;
}

LiveAdapters combine(const at::Tensor& weight, std::span<const LowRank> adapters) {
  LiveAdapters live;
  std::vector<at::Tensor> downs, ups;
  for (const LowRank& adapter : adapters) {
    core::internal_check(misfit(adapter, weight.sizes()).empty(), "an adapter fits its weight");
    downs.push_back(fp32(adapter.down).flatten(1));
    ups.push_back(fp32(adapter.up).flatten(1) * adapter.scale);
    if (!adapter.magnitude.defined()) continue;
    // A DoRA multiplies all that came before it.
    const at::Tensor factor = magnitude_factor(weight, adapter);
    if (adapter.magnitude_of == MagnitudeOf::kOutputs) {
      scale_outputs(ups, factor);
    } else {
      scale_inputs(downs, factor);
    }
    live.factor = live.factor.defined() ? live.factor * factor : factor;
  }
  live.down = at::cat(downs);
  live.up = at::cat(ups, 1);
  return live;
}

}  // namespace muster::nn
