// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/post_norm_block.h"

#include <ATen/Functions.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <array>

#include "muster/nn/tiles.h"

namespace muster::nn {
namespace {

// Zeros behind each head's `width` columns of dimension `dim`, up to the padded width.
at::Tensor pad_heads(const at::Tensor& x, std::int64_t dim, const HeadShape& shape,
                     std::int64_t padded_width) {
  if (padded_width == shape.width) return x;
  std::vector<std::int64_t> split = x.sizes().vec();
  split[dim] = shape.heads;
  split.insert(split.begin() + dim + 1, shape.width);
  const at::Tensor heads = x.reshape(split);
  split[dim + 1] = padded_width;
  at::Tensor padded = at::zeros(split, x.options());
  padded.narrow(dim + 1, 0, shape.width).copy_(heads);
  return padded.flatten(dim, dim + 1);
}

// Weight rows and bias of query, key and value below one another: one product instead of three.
PackedLinear fuse(std::initializer_list<Linear*> layers, const HeadShape& shape,
                  const ComputeTarget& target) {
  const std::int64_t width = shape.padded_width(target.dtype);
  std::vector<at::Tensor> weights, biases;
  for (Linear* layer : layers) {
    weights.push_back(pad_heads(layer->weight().value.to(target.dtype), 0, shape, width));
    biases.push_back(pad_heads(layer->bias()->value.to(target.dtype), 0, shape, width));
    layer->weight().value.reset();
    layer->bias()->value.reset();
  }
  return {at::cat(weights), at::cat(biases), Activation::kIdentity, target};
}

}  // namespace

PostNormBlock::PostNormBlock(const PostNormConfig& config)
    : shape_(config.head_shape()),
      query_(config.hidden, config.hidden),
      key_(config.hidden, config.hidden),
      value_(config.hidden, config.hidden),
      attention_output_(config.hidden, config.hidden),
      attention_norm_(config.hidden, config.layer_norm_epsilon),
      up_(config.hidden, config.intermediate, config.activation),
      down_(config.intermediate, config.hidden),
      output_norm_(config.hidden, config.layer_norm_epsilon) {
  const PostNormNames& names = config.names;
  add_child(names.query, query_);
  add_child(names.key, key_);
  add_child(names.value, value_);
  add_child(names.attention_output, attention_output_);
  add_child(names.attention_norm, attention_norm_);
  add_child(names.up, up_);
  add_child(names.down, down_);
  add_child(names.output_norm, output_norm_);
}

void PostNormBlock::on_prepare(const ComputeTarget& target) {
  qkv_ = fuse({&query_, &key_, &value_}, shape_, target);
  at::Tensor& output_weight = attention_output_.weight().value;
  output_weight = pad_heads(output_weight, 1, shape_, shape_.padded_width(target.dtype));
}

void PostNormBlock::forward(at::Tensor& hidden, std::span<const SequenceRun> runs, const AttentionBias& bias,
                            BlockBuffers& buffers) const {
  qkv_.forward_rows(hidden, buffers.qkv);                    // [rows, 3 * heads * width]
  attend(buffers.qkv, runs, shape_, bias, buffers.context);  // [rows, heads * width]
  for (std::int64_t row = 0; row < hidden.size(0); row += kTileRows) {
    const std::int64_t rows = std::min(kTileRows, hidden.size(0) - row);
    at::Tensor tile = hidden.narrow(0, row, rows);
    tile.copy_(after_attention(buffers.context.narrow(0, row, rows), tile));
  }
}

// One tile to the end of the block, while it is in the cache.
at::Tensor PostNormBlock::after_attention(const at::Tensor& context, const at::Tensor& hidden) const {
  const at::Tensor attended =
      attention_norm_.forward(attention_output_.forward_add(context, hidden));  // [tile, hidden]
  const at::Tensor inner = up_.forward(attended);                               // [tile, intermediate]
  return output_norm_.forward(down_.forward_add(inner, attended));              // [tile, hidden]
}

at::Tensor PostNormBlock::forward_training(const at::Tensor& hidden, const at::Tensor& distance_bias,
                                           const StackTraining& training, std::uint32_t first_site) const {
  const BlockDropouts& rates = training.dropouts;
  const std::array weights{query_.weight_value(), key_.weight_value(), value_.weight_value()};
  const std::array biases{query_.bias_value(), key_.bias_value(), value_.bias_value()};
  const at::Tensor qkv = trainable::linears(hidden, weights, biases);  // [rows, 3 * heads * width]
  const at::Tensor context =
      trainable::attend(qkv, shape_, distance_bias, training.dropout(rates.attention, first_site));
  const at::Tensor attended = attention_norm_.forward_training(
      attention_output_.forward_training(context), hidden,
      training.dropout(rates.attention_output, first_site + 1));  // [rows, hidden]
  const at::Tensor inner = up_.forward_training(attended);        // [rows, intermediate]
  return output_norm_.forward_training(down_.forward_training(inner), attended,
                                       training.dropout(rates.output, first_site + 2));
}

PostNormStack::PostNormStack(const PostNormConfig& config) : config_(config) {
  for (std::int64_t i = 0; i < config.layers; ++i) {
    blocks_.push_back(std::make_unique<PostNormBlock>(config));
    add_child(std::to_string(i), *blocks_.back());
  }
}

void PostNormStack::forward(at::Tensor& hidden, std::span<const SequenceRun> runs, const AttentionBias& bias,
                            const Observer& observe) const {
  const HeadShape shape = config_.head_shape();
  const std::int64_t width = shape.heads * shape.padded_width(hidden.scalar_type());
  BlockBuffers buffers{at::empty({hidden.size(0), 3 * width}, hidden.options()),
                       at::empty({hidden.size(0), width}, hidden.options())};
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    blocks_[i]->forward(hidden, runs, bias, buffers);
    if (observe) observe("layer." + std::to_string(i), hidden);
  }
}

at::Tensor PostNormStack::train_block(std::size_t block, const at::Tensor& hidden,
                                      const at::Tensor& distance_bias, const StackTraining& training) const {
  const auto first_site =
      training.first_site + static_cast<std::uint32_t>(block) * StackTraining::kSitesPerBlock;
  return blocks_[block]->forward_training(hidden, distance_bias, training, first_site);
}

at::Tensor PostNormStack::forward_training(at::Tensor hidden, const StackTraining& training) const {
  const auto frozen = static_cast<std::size_t>(training.frozen);
  const bool keeps_graph = c10::GradMode::is_enabled();
  const at::Tensor shared_bias = training.make_distance_bias();
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const c10::AutoGradMode graph(keeps_graph && i >= frozen);
    if (!c10::GradMode::is_enabled() || training.insides == Insides::kKept) {
      hidden = train_block(i, hidden, shared_bias, training);
      continue;
    }
    // What runs twice may capture leaves only, so each block makes its own bias of them.
    hidden = trainable::checkpointed(
        [this, i, training](const at::Tensor& x) {
          return train_block(i, x, training.make_distance_bias(), training);
        },
        hidden);
  }
  return hidden;
}

}  // namespace muster::nn
