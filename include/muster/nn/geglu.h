// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include "muster/nn/linear.h"

namespace muster::nn {

/// A gated linear layer (Shazeer, 2020): proj(x) = [hidden, gate] -> hidden * gelu(gate). "proj.weight" [2 *
/// width, in] and "proj.bias".
class Geglu : public Module {
 public:
  Geglu(Extent in, Extent width);
  at::Tensor forward(const at::Tensor& x) const;  ///< [.., in] -> [.., width], as Linear::apply()

 protected:
  void on_prepare(const ComputeTarget& target) override;

 private:
  std::int64_t width_;
  Linear proj_;
  std::shared_ptr<const kernels::PackedWeight> packed_;  // instead of proj_'s, the gate computed too
};

}  // namespace muster::nn
