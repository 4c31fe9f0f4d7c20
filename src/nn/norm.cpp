// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/norm.h"

#include <ATen/Functions.h>

#include "nn/kernels/own_kernels.h"
#include "nn/kernels/packed_weight.h"

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
  own_kernel_ = kernels::has_own_attention(target.device, target.dtype);
  const ComputeTarget exact{target.device,
                            c10::ScalarType::Float};  // our kernel takes fp32 weights for bf16 rows
  move_to(weight_, own_kernel_ ? exact : target);
  move_to(bias_, own_kernel_ ? exact : target);
}

at::Tensor LayerNorm::forward(const at::Tensor& x) const {
  if (own_kernel_) {
    at::Tensor out = at::empty_like(x);
    kernels::cpu_kernels()->layer_norm(kernels::input_rows(x), x.size(-1),
                                       {weight_.value.const_data_ptr<float>(),
                                        bias_.value.const_data_ptr<float>(), static_cast<float>(epsilon_)},
                                       kernels::output_rows(out));
    return out;
  }
  return at::layer_norm(x, {x.size(-1)}, weight_.value, bias_.value, epsilon_);
}

at::Tensor LayerNorm::apply(const at::Tensor& x) const {
  const at::Tensor rows = x.reshape({-1, x.size(-1)}).contiguous();
  if (prepared()) return forward(rows).view(x.sizes());
  const auto dtype = x.scalar_type();
  return trainable::add_norm(rows, {}, {weight_.value.to(dtype), bias_.value.to(dtype), epsilon_}, {})
      .view(x.sizes());
}

at::Tensor LayerNorm::forward_training(const at::Tensor& x, const at::Tensor& residual,
                                       const trainable::Dropout& dropout) const {
  return trainable::add_norm(x, residual, {weight_.value, bias_.value, epsilon_}, dropout);
}

Embedding::Embedding(Extent entries, Extent width) : weight_(add_parameter("weight", {entries, width})) {}

void Embedding::on_prepare(const ComputeTarget& target) {
  move_to(weight_, target);
}

at::Tensor Embedding::forward(const at::Tensor& indices) const {
  return at::embedding(weight_.value, indices);
}

at::Tensor Embedding::apply(const at::Tensor& indices) const {
  const at::Tensor flat = indices.reshape({-1});
  std::vector<std::int64_t> shape = indices.sizes().vec();
  shape.push_back(weight_.value.size(1));
  return (prepared() ? forward(flat) : forward_training(flat)).view(shape);
}

at::Tensor Embedding::forward_training(const at::Tensor& indices) const {
  return trainable::embed(weight_.value, indices);
}

}  // namespace muster::nn
