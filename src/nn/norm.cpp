// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/norm.h"

#include <ATen/Functions.h>

namespace muster::nn {
namespace {

// A copy even where nothing changes: loaded values lie in the mapped checkpoint.
void move_to(Parameter& parameter, const ComputeTarget& target) {
  parameter.value = parameter.value.to(target.device, target.dtype, /*non_blocking=*/false, /*copy=*/true);
}

}  // namespace

LayerNorm::LayerNorm(Extent width, double epsilon)
    : epsilon_(epsilon), weight_(add_parameter("weight", {width})), bias_(add_parameter("bias", {width})) {}

void LayerNorm::on_prepare(const ComputeTarget& target) {
  move_to(weight_, target);
  move_to(bias_, target);
}

at::Tensor LayerNorm::forward(const at::Tensor& x) const {
  return at::layer_norm(x, {x.size(-1)}, weight_.value, bias_.value, epsilon_);
}

Embedding::Embedding(Extent entries, Extent width) : weight_(add_parameter("weight", {entries, width})) {}

void Embedding::on_prepare(const ComputeTarget& target) {
  move_to(weight_, target);
}

at::Tensor Embedding::forward(const at::Tensor& indices) const {
  return at::embedding(weight_.value, indices);
}

}  // namespace muster::nn
