// SPDX-License-Identifier: Apache-2.0
#include "models/unet2d/blocks.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include <cmath>

namespace muster::models::unet2d {
namespace {

using nn::Activation;
using nn::Bias;
using nn::ConvShape;
using nn::Extent;

constexpr ConvShape kPointwise{.kernel = 1, .stride = 1, .padding = 0};
constexpr double kTransformerNormEpsilon = 1e-6;  // of the group norm, whatever norm_eps says
constexpr double kLayerNormEpsilon = 1e-5;
constexpr double kLongestPeriod = 10000;

}  // namespace

Attention::Attention(const AttentionShape& shape)
    : heads_(shape.heads),
      to_q_(shape.width, shape.width, Activation::kIdentity, Bias::kNo),
      to_k_(shape.context, shape.width, Activation::kIdentity, Bias::kNo),
      to_v_(shape.context, shape.width, Activation::kIdentity, Bias::kNo),
      to_out_(shape.width, shape.width) {
  add_child("to_q", to_q_);
  add_child("to_k", to_k_);
  add_child("to_v", to_v_);
  add_child("to_out.0", to_out_);
}

at::Tensor Attention::to_itself(const at::Tensor& x, const at::Tensor& residual) const {
  return to_context(x, keys(x), values(x), residual);
}

at::Tensor Attention::to_context(const at::Tensor& x, const at::Tensor& keys, const at::Tensor& values,
                                 const at::Tensor& residual) const {
  return to_out_.apply(nn::attend_all(to_q_.apply(x), keys, values, heads_), residual);
}

TransformerBlock::TransformerBlock(const AttentionShape& shape)
    : norm1_(shape.width, kLayerNormEpsilon),
      norm2_(shape.width, kLayerNormEpsilon),
      norm3_(shape.width, kLayerNormEpsilon),
      attn1_({shape.width, shape.width, shape.heads}),
      attn2_(shape),
      ff_in_(shape.width, {4 * shape.width.size, shape.width.key}),
      ff_out_({4 * shape.width.size, shape.width.key}, shape.width) {
  add_child("norm1", norm1_);
  add_child("attn1", attn1_);
  add_child("norm2", norm2_);
  add_child("attn2", attn2_);
  add_child("norm3", norm3_);
  add_child("ff.net.0", ff_in_);
  add_child("ff.net.2", ff_out_);
}

at::Tensor TransformerBlock::forward(const at::Tensor& x, const at::Tensor& keys,
                                     const at::Tensor& values) const {
  at::Tensor hidden = attn1_.to_itself(norm1_.apply(x), x);
  hidden = attn2_.to_context(norm2_.apply(hidden), keys, values, hidden);
  return ff_out_.apply(ff_in_.forward(norm3_.apply(hidden)), hidden);
}

SpatialTransformer::SpatialTransformer(const UNet2DConfig& config, const AttentionShape& shape,
                                       std::int64_t blocks)
    : norm_(config.norm_groups, shape.width, kTransformerNormEpsilon) {
  add_child("norm", norm_);
  if (config.linear_projection) {
    linear_in_ = std::make_unique<nn::Linear>(shape.width, shape.width);
    linear_out_ = std::make_unique<nn::Linear>(shape.width, shape.width);
    add_child("proj_in", *linear_in_);
    add_child("proj_out", *linear_out_);
  } else {
    conv_in_ = std::make_unique<nn::Conv2d>(shape.width, shape.width, kPointwise);
    conv_out_ = std::make_unique<nn::Conv2d>(shape.width, shape.width, kPointwise);
    add_child("proj_in", *conv_in_);
    add_child("proj_out", *conv_out_);
  }
  for (std::int64_t i = 0; i < blocks; ++i) {
    blocks_.push_back(std::make_unique<TransformerBlock>(shape));
    add_child(fmt::format("transformer_blocks.{}", i), *blocks_.back());
  }
}

at::Tensor SpatialTransformer::forward(const at::Tensor& x, const UNetCondition& condition,
                                       std::size_t& layer) const {
  at::Tensor rows = project_in(norm_.forward(x));
  for (const auto& block : blocks_) {
    rows = block->forward(rows, condition.keys.at(layer), condition.values.at(layer));
    ++layer;
  }
  return project_out(rows, x);
}

at::Tensor SpatialTransformer::project_in(const at::Tensor& x) const {
  return conv_in_ ? nn::to_rows(conv_in_->forward(x)) : linear_in_->apply(nn::to_rows(x));
}

at::Tensor SpatialTransformer::project_out(const at::Tensor& rows, const at::Tensor& residual) const {
  const std::int64_t height = residual.size(2), width = residual.size(3);
  if (conv_out_) return conv_out_->forward_add(nn::to_picture(rows, height, width), residual);
  return nn::to_picture(linear_out_->apply(rows, nn::to_rows(residual)), height, width);
}

void SpatialTransformer::add_keys_and_values(const at::Tensor& hidden, UNetCondition& condition) const {
  for (const auto& block : blocks_) {
    condition.keys.push_back(block->cross_attention().keys(hidden));
    condition.values.push_back(block->cross_attention().values(hidden));
  }
}

EmbeddingMlp::EmbeddingMlp(Extent in, Extent width)
    : linear_1_(in, width, Activation::kSilu), linear_2_(width, width) {
  add_child("linear_1", linear_1_);
  add_child("linear_2", linear_2_);
}

// In fp32 and in diffusers' order of operations: at time 999 a frequency's last bit is seen in the angle.
at::Tensor sinusoids(const at::Tensor& values, std::int64_t width, const UNet2DConfig& config) {
  const std::int64_t half = width / 2;
  const auto options = values.options().dtype(c10::ScalarType::Float);
  const at::Tensor exponents = at::arange(half, options) * -std::log(kLongestPeriod) /
                               (static_cast<double>(half) - config.frequency_shift);
  const at::Tensor frequencies = at::exp(exponents);
  std::vector<at::Tensor> rows;
  for (std::int64_t i = 0; i < values.size(0); ++i) {
    const at::Tensor angles = values[i].to(c10::ScalarType::Float) * frequencies;
    const at::Tensor sine = at::sin(angles), cosine = at::cos(angles);
    rows.push_back(config.flip_sin_to_cos ? at::cat({cosine, sine}) : at::cat({sine, cosine}));
  }
  const at::Tensor all = at::stack(rows);
  return width % 2 == 0 ? all : at::constant_pad_nd(all, {0, 1});
}

}  // namespace muster::models::unet2d
