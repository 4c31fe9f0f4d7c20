// SPDX-License-Identifier: Apache-2.0
// What a UNet's levels are made of, named as in diffusers' checkpoints.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "models/image_blocks.h"
#include "muster/models/unet2d.h"
#include "muster/nn/geglu.h"
#include "muster/nn/image_layers.h"
#include "muster/nn/linear.h"
#include "muster/nn/norm.h"

namespace muster::models::unet2d {

/// Where attention's keys and values come from.
struct AttentionShape {
  nn::Extent width;    ///< of queries and of the result
  nn::Extent context;  ///< of what keys and values are made of
  std::int64_t heads = 1;
};

class Attention : public nn::Module {
 public:
  explicit Attention(const AttentionShape& shape);
  /// + residual, x [n, tokens, width].
  at::Tensor to_itself(const at::Tensor& x, const at::Tensor& residual) const;
  at::Tensor to_context(const at::Tensor& x, const at::Tensor& keys, const at::Tensor& values,
                        const at::Tensor& residual) const;
  at::Tensor keys(const at::Tensor& context) const { return to_k_.apply(context); }
  at::Tensor values(const at::Tensor& context) const { return to_v_.apply(context); }

 private:
  std::int64_t heads_;
  nn::Linear to_q_, to_k_, to_v_, to_out_;
};

class TransformerBlock : public nn::Module {
 public:
  TransformerBlock(const AttentionShape& shape);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& keys, const at::Tensor& values) const;
  const Attention& cross_attention() const { return attn2_; }

 private:
  nn::LayerNorm norm1_, norm2_, norm3_;
  Attention attn1_, attn2_;
  nn::Geglu ff_in_;
  nn::Linear ff_out_;
};

/// Transformer blocks over a picture's pixels, around a shortcut.
class SpatialTransformer : public nn::Module {
 public:
  /// `blocks` transformer blocks; `shape.context` is the text's.
  SpatialTransformer(const UNet2DConfig& config, const AttentionShape& shape, std::int64_t blocks);
  /// Takes the keys and values of its blocks from `condition`, from `layer` on, which moves behind them.
  at::Tensor forward(const at::Tensor& x, const UNetCondition& condition, std::size_t& layer) const;
  void add_keys_and_values(const at::Tensor& hidden, UNetCondition& condition) const;

 private:
  at::Tensor project_in(const at::Tensor& x) const;  // -> [n, pixels, channels]
  at::Tensor project_out(const at::Tensor& rows, const at::Tensor& residual) const;

  nn::GroupNorm norm_;
  std::unique_ptr<nn::Linear> linear_in_, linear_out_;  // either these
  std::unique_ptr<nn::Conv2d> conv_in_, conv_out_;      // or these
  std::vector<std::unique_ptr<TransformerBlock>> blocks_;
};

/// linear, SiLU, linear: of the time's and of SDXL's added embedding.
class EmbeddingMlp : public nn::Module {
 public:
  EmbeddingMlp(nn::Extent in, nn::Extent width);
  at::Tensor forward(const at::Tensor& x) const { return linear_2_.apply(linear_1_.apply(x)); }

 private:
  nn::Linear linear_1_, linear_2_;
};

/// sin and cos of each value's products with falling frequencies: fp32 [n] -> fp32 [n, width].
at::Tensor sinusoids(const at::Tensor& values, std::int64_t width, const UNet2DConfig& config);

}  // namespace muster::models::unet2d
