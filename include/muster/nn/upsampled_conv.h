// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <vector>

#include "muster/nn/image_layers.h"

namespace muster::nn {

/// To which sizes pictures are made larger.
enum class Enlargement {
  kDoubled,  ///< height and width
  kAny,      ///< also one less, where a size was odd before it was halved; keeps the weight a second time
};

/// Every pixel four times and a 3 x 3 convolution behind it, "weight" and "bias" as in Conv2d. Prepared, the
/// larger picture is never made: a result's nine pixels are only four different ones, so each of the four
/// places within a pixel is a 2 x 2 convolution of the small picture, in 4/9 of the operations.
class UpsampledConv2d : public Conv2d {
 public:
  UpsampledConv2d(Extent in, Extent out, Enlargement enlargement);
  /// [n, in, h, w] -> [n, out, height, width]; the size is twice that of `x` where it is not given.
  at::Tensor enlarge(const at::Tensor& x) const;
  at::Tensor enlarge(const at::Tensor& x, std::int64_t height, std::int64_t width) const;

  void attach(LowRank adapter) override;

 protected:
  void on_prepare(const ComputeTarget& target) override;

 private:
  Enlargement enlargement_;
  Extent in_, out_;
  bool has_adapters_ = false;                    // then it is computed as it is written
  std::vector<std::unique_ptr<Conv2d>> places_;  // when prepared: top left, top right, bottom left, right
};

}  // namespace muster::nn
