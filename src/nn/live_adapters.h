// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <span>

#include "muster/nn/adapter.h"

namespace muster::nn {

/// m / |W + scale up down| in fp32, in a shape that multiplies the weight.
at::Tensor magnitude_factor(const at::Tensor& weight, const LowRank& adapter);

/// The adapters of one weight as they are applied live, all at once: y = (factor W) x + up down x + bias, the
/// same sum as merged() in another order.
struct LiveAdapters {
  at::Tensor factor;  ///< fp32, in a shape that multiplies the weight, or undefined: no DoRA
  at::Tensor down;    ///< fp32 [sum of ranks, in * kernel * kernel]
  at::Tensor up;      ///< fp32 [out, sum of ranks], scales included

  /// factor W in fp32, or W as it is.
  at::Tensor scaled(const at::Tensor& weight) const;
};

LiveAdapters combine(const at::Tensor& weight, std::span<const LowRank> adapters);

}  // namespace muster::nn
