// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "muster/nn/activation.h"
#include "muster/nn/adapter.h"
#include "muster/nn/module.h"

/// Layers over pictures and latents: [n, channels, height, width], channels last in memory. They work in two
/// ways: prepared, they are const, fast and keep no graph; before prepare() they compute on their parameters'
/// values with LibTorch's autograd, which is how they are trained. So a model's forward is written once. On
/// the CPU a sample's values do not depend on the other samples of the call.
namespace muster::nn {

namespace kernels {
class PackedConvolution;
}

struct ConvShape {
  std::int64_t kernel = 3;
  std::int64_t stride = 1;
  std::int64_t padding = 1;
};

/// "weight" [out, in, kernel, kernel] and "bias" [out].
class Conv2d : public Module, public Adaptable {
 public:
  Conv2d(Extent in, Extent out, ConvShape shape = {});
  /// `shift` [n, out], if defined, is added to every pixel of its sample.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& shift = {}) const;
  /// Rounded once where the kernel allows it.
  at::Tensor forward_add(const at::Tensor& x, const at::Tensor& residual) const;

  std::vector<std::int64_t> weight_shape() const override { return weight_->sizes(); }
  void attach(LowRank adapter) override;
  const at::Tensor& weight_value() const { return weight_->value; }

 protected:
  void on_prepare(const ComputeTarget& target) override;

 private:
  ConvShape shape_;
  Parameter* weight_ = nullptr;
  Parameter* bias_ = nullptr;
  std::vector<LowRank> adapters_;
  at::Tensor down_, up_;                                      // of all adapters, when prepared
  std::shared_ptr<const kernels::PackedConvolution> packed_;  // instead of the weight

  at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) const;
  at::Tensor forward_training(const at::Tensor& x) const;
  at::Tensor forward_prepared(const at::Tensor& x, const at::Tensor& shift, const at::Tensor& residual) const;
};

/// Group normalization (Wu and He, 2018): "weight" and "bias" [channels]; statistics in fp32, a sample alone.
class GroupNorm : public Module {
 public:
  GroupNorm(std::int64_t groups, Extent channels, double epsilon);
  /// activation(norm(x)) in one pass.
  at::Tensor forward(const at::Tensor& x, Activation activation = Activation::kIdentity) const;

 protected:
  void on_prepare(const ComputeTarget& target) override;

 private:
  std::int64_t groups_;
  double epsilon_;
  bool own_kernel_ = false;
  Parameter* weight_ = nullptr;
  Parameter* bias_ = nullptr;

  at::Tensor forward_kernel(const at::Tensor& x, Activation activation) const;
};

/// A pixel's channels as a row: [n, channels, height, width] -> [n, height * width, channels], and back. No
/// copy where memory is channels last.
at::Tensor to_rows(const at::Tensor& x);
at::Tensor to_picture(const at::Tensor& rows, std::int64_t height, std::int64_t width);

/// activate() whose bytes do not depend on the other samples: a vectorised function may round the last
/// elements of its input otherwise than the rest.
at::Tensor activate_each(const at::Tensor& x, Activation activation);

/// Every pixel four times.
at::Tensor upsample_nearest(const at::Tensor& x);
/// To any size, as diffusers does where a size was odd before it was halved.
at::Tensor upsample_nearest(const at::Tensor& x, std::int64_t height, std::int64_t width);

/// softmax(q k^T / sqrt(width)) v for each sample and head: q [n, tokens, heads * width], k and v [n, keys,
/// heads * width] -> like q. `causal`: a token sees itself and those before it.
enum class Mask { kNone, kCausal };
at::Tensor attend_all(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                      Mask mask = Mask::kNone);

}  // namespace muster::nn
