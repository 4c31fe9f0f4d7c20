// SPDX-License-Identifier: Apache-2.0
#include "nn/kernels/own_kernels.h"

#include "muster/device/device.h"
#include "muster/nn/tiles.h"

namespace muster::nn {

namespace kernels {

bool has_own_attention(c10::Device device, c10::ScalarType dtype) {
  return device.is_cpu() && dtype == c10::ScalarType::BFloat16 && cpu_kernels() != nullptr;
}

bool has_own_linear(const ComputeTarget& target) {
  if (!has_own_attention(target.device, target.dtype)) return false;
  return target.weights == WeightType::kInt8 || !device::cpu_has_amx();
}

bool has_own_group_norm(const ComputeTarget& target) {
  const bool either = target.dtype == c10::ScalarType::Float || target.dtype == c10::ScalarType::BFloat16;
  return target.device.is_cpu() && either && cpu_kernels() != nullptr;
}

bool has_own_fp32_linear(const ComputeTarget& target) {
  return target.device.is_cpu() && target.dtype == c10::ScalarType::Float && linear_fp32() != nullptr;
}

}  // namespace kernels

std::int64_t padded_rows(std::int64_t rows, const ComputeTarget& target) {
  return kernels::has_own_linear(target) ? rows : padded_rows(rows);
}

}  // namespace muster::nn
