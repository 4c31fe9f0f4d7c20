// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>

#include "muster/nn/activation.h"
#include "muster/nn/adapter.h"
#include "muster/nn/module.h"
#include "muster/nn/tiles.h"

namespace muster::nn {

namespace kernels {
class PackedWeight;
}

/// A matrix product made ready for one device and type: y = activation(x W^T + b), one tile of kTileRows rows
/// at a time. On the CPU the weight is packed once, and bias, activation and residual are done while the
/// product is in registers: by our own kernels for bf16 and int8 on AVX-512 (which take any row count), by
/// oneDNN for fp32 and for bf16 on AMX; where LibTorch lacks its operators it is at::linear, on the same
/// tiles.
class PackedLinear {
 public:
  PackedLinear() = default;
  /// `weight` is [out, in]; `bias` is [out] or undefined.
  PackedLinear(const at::Tensor& weight, const at::Tensor& bias, Activation activation,
               const ComputeTarget& target);
  /// In fp32 on the host, on tiles of `tile_rows`: for few rows and many outputs, such as a classifier's.
  static PackedLinear on_host(const at::Tensor& weight, const at::Tensor& bias, Activation activation,
                              std::int64_t tile_rows);

  at::Tensor forward(const at::Tensor& tile) const;  ///< [kTileRows, in] -> [kTileRows, out]
  /// forward(tile) + residual, rounded once. Only without an activation.
  at::Tensor forward_add(const at::Tensor& tile, const at::Tensor& residual) const;
  /// All tiles of `x` [tiles * kTileRows, in] into `out` [tiles * kTileRows, out].
  void forward_rows(const at::Tensor& x, at::Tensor& out) const;
  /// Any number of rows, [rows, in] -> [rows, out], plus `residual` where it is defined (behind the
  /// activation). On the CPU a row's bytes do not depend on the others.
  at::Tensor apply(const at::Tensor& x, const at::Tensor& residual) const;

 private:
  at::Tensor multiply_packed(const at::Tensor& x, const at::Tensor& residual) const;

  std::shared_ptr<const kernels::PackedWeight> packed_;  // instead of weight_ and bias_
  at::Tensor weight_;                                    // reordered when reordered_
  std::optional<at::Tensor> bias_;
  Activation activation_ = Activation::kIdentity;
  bool activates_itself_ = false;  // packed_ computes the activation too
  bool reordered_ = false;
  std::int64_t tile_rows_ = kTileRows;

  void prepare(const at::Tensor& weight, const at::Tensor& bias, const ComputeTarget& target);
};

enum class Bias { kNo, kYes };

/// "weight" [out, in] and "bias" [out]. Adapters are part of apply() alone.
class Linear : public Module, public Adaptable {
 public:
  Linear(Extent in, Extent out, Activation activation = Activation::kIdentity, Bias bias = Bias::kYes);

  /// x of any leading shape, [.., in] -> [.., out], plus `residual` where it is defined. Before prepare()
  /// with a graph back to the weights' values.
  at::Tensor apply(const at::Tensor& x, const at::Tensor& residual = {}) const;

  at::Tensor forward(const at::Tensor& tile) const { return packed_.forward(tile); }
  /// All rows of a batch, [padded_rows, in] -> [padded_rows, out].
  at::Tensor forward_rows(const at::Tensor& x) const;
  at::Tensor forward_add(const at::Tensor& tile, const at::Tensor& residual) const {
    return packed_.forward_add(tile, residual);
  }

  /// The same with a graph back to the weights' values: [rows, in] -> [rows, out].
  at::Tensor forward_training(const at::Tensor& x) const;

  /// The loaded weights, for a parent that fuses several layers into one.
  Parameter& weight() { return *weight_; }
  Parameter* bias() { return bias_; }
  const at::Tensor& weight_value() const { return weight_->value; }
  at::Tensor bias_value() const { return bias_ ? bias_->value : at::Tensor(); }

  std::vector<std::int64_t> weight_shape() const override { return weight_->sizes(); }
  void attach(LowRank adapter) override;
  /// For a parent that fuses layers: it must leave those with adapters alone.
  bool has_adapters() const { return !adapters_.empty(); }

 protected:
  void on_prepare(const ComputeTarget& target) override;

 private:
  Activation activation_;
  Parameter* weight_ = nullptr;
  Parameter* bias_ = nullptr;
  PackedLinear packed_;
  std::vector<LowRank> adapters_;
  PackedLinear down_, up_;  // of all adapters, when prepared

  at::Tensor apply_training(const at::Tensor& rows) const;
};

/// True when the fast CPU path (reordered weights) is in this LibTorch.
bool has_reordered_linear();
/// True when this processor has our int8 product (AVX512-VNNI beside AVX512-BF16).
bool has_int8_linear();

}  // namespace muster::nn
