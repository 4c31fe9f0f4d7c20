// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/nn/module.h"
#include "muster/nn/trainable.h"

namespace muster::nn {

/// Layer normalization over the last dimension: "weight" and "bias" [width].
class LayerNorm : public Module {
 public:
  LayerNorm(Extent width, double epsilon);
  at::Tensor forward(const at::Tensor& x) const;  ///< [rows, width]; statistics in fp32
  /// x of any leading shape; before prepare() with a graph back to the weights' values.
  at::Tensor apply(const at::Tensor& x) const;
  /// Of drop(x) + residual, which may be undefined, with a graph back to the weights' values.
  at::Tensor forward_training(const at::Tensor& x, const at::Tensor& residual,
                              const trainable::Dropout& dropout) const;

 protected:
  void on_prepare(const ComputeTarget& target) override;

 private:
  double epsilon_;
  bool own_kernel_ = false;
  Parameter& weight_;
  Parameter& bias_;
};

/// A lookup table: "weight" [entries, width].
class Embedding : public Module {
 public:
  Embedding(Extent entries, Extent width);
  at::Tensor forward(const at::Tensor& indices) const;  ///< int64 [rows] -> [rows, width]
  at::Tensor forward_training(const at::Tensor& indices) const;
  /// Indices of any shape; before prepare() with a graph back to the table.
  at::Tensor apply(const at::Tensor& indices) const;
  const at::Tensor& table() const { return weight_.value; }

 protected:
  void on_prepare(const ComputeTarget& target) override;

 private:
  Parameter& weight_;
};

}  // namespace muster::nn
