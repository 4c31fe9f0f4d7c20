// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/Functions.h>

#include "muster/nn/module.h"

/// Weights that stay in the host's memory while a model computes elsewhere: pinned there, and copied for each
/// call, so that the device holds one layer's at a time.
namespace muster::nn {

inline bool stays_on_host(const ComputeTarget& target) {
  return target.home == WeightHome::kHost && !target.device.is_cpu();
}

/// `weight` where a layer keeps it, in its memory format.
inline at::Tensor at_home(const at::Tensor& weight, const ComputeTarget& target) {
  return stays_on_host(target) ? weight.to(c10::Device(c10::DeviceType::CPU)).pin_memory() : weight;
}

/// `weight` where `x` is.
inline at::Tensor fetched(const at::Tensor& weight, const at::Tensor& x) {
  return weight.device() == x.device() ? weight : weight.to(x.device(), /*non_blocking=*/true);
}

}  // namespace muster::nn
