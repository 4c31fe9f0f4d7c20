// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/geglu.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "muster/nn/image_layers.h"
#include "nn/kernels/own_kernels.h"
#include "nn/kernels/packed_weight.h"

namespace muster::nn {

Geglu::Geglu(Extent in, Extent width) : width_(width.size), proj_(in, {2 * width.size, width.key}) {
  add_child("proj", proj_);
}

void Geglu::on_prepare(const ComputeTarget& target) {
  const bool fits = width_ % kernels::kPanelColumnsFp32 == 0 && !proj_.has_adapters();
  if (!fits || target.weights != WeightType::kAsActivations || !kernels::has_own_linear(target)) return;
  packed_ = std::make_shared<const kernels::PackedWeight>(proj_.weight_value(), proj_.bias_value(),
                                                          kernels::LinearActivation::kIdentity,
                                                          kernels::WeightStorage::kBf16Gated);
  proj_.weight().value.reset();
  proj_.bias()->value.reset();
}

at::Tensor Geglu::forward(const at::Tensor& x) const {
  if (packed_) {
    const at::Tensor rows = x.reshape({-1, x.size(-1)}).contiguous();
    at::Tensor out = at::empty({rows.size(0), width_}, x.options());
    packed_->multiply(rows, {}, out);
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = width_;
    return out.view(shape);
  }
  const auto halves = proj_.apply(x).chunk(2, -1);
  if (!prepared()) return halves[0] * activate(halves[1], Activation::kGelu);
  return halves[0] * activate_each(halves[1].contiguous(), Activation::kGelu);
}

}  // namespace muster::nn
