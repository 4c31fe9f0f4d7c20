// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "muster/nn/attention.h"
#include "muster/nn/linear.h"
#include "muster/nn/norm.h"

namespace muster::nn {

/// How a checkpoint spells the parts of a block; the defaults are the most common spelling.
struct PostNormNames {
  std::string query = "attention.self.query";
  std::string key = "attention.self.key";
  std::string value = "attention.self.value";
  std::string attention_output = "attention.output.dense";
  std::string attention_norm = "attention.output.LayerNorm";
  std::string up = "intermediate.dense";
  std::string down = "output.dense";
  std::string output_norm = "output.LayerNorm";
};

struct PostNormConfig {
  std::int64_t layers = 0;
  Extent hidden;
  Extent intermediate;
  std::int64_t heads = 0;
  double layer_norm_epsilon = 1e-12;
  Activation activation = Activation::kGelu;
  PostNormNames names;

  HeadShape head_shape() const { return {heads, hidden.size / heads}; }
};

/// Sees named intermediates, so that a comparison can say which layer is the first wrong one.
using Observer = std::function<void(const std::string& name, const at::Tensor& value)>;

/// Memory that the blocks of a stack use one after another.
struct BlockBuffers {
  at::Tensor qkv;      // [rows, 3 * heads * padded width]
  at::Tensor context;  // [rows, heads * padded width]
};

/// The transformer block of "Attention Is All You Need" (Vaswani et al., 2017), figure 1 left: attention and
/// feed-forward, each followed by add and norm.
class PostNormBlock : public Module {
 public:
  explicit PostNormBlock(const PostNormConfig& config);
  /// `hidden` [padded_rows(rows, target), hidden], updated in place.
  void forward(at::Tensor& hidden, std::span<const SequenceRun> runs, const AttentionBias& bias,
               BlockBuffers& buffers) const;

 protected:
  void on_prepare(const ComputeTarget& target) override;

 private:
  at::Tensor after_attention(const at::Tensor& context, const at::Tensor& hidden) const;

  HeadShape shape_;
  Linear query_, key_, value_;  // weights only: computed as qkv_
  PackedLinear qkv_;
  Linear attention_output_;
  LayerNorm attention_norm_;
  Linear up_, down_;
  LayerNorm output_norm_;
};

/// `config.layers` blocks named "<index>".
class PostNormStack : public Module {
 public:
  explicit PostNormStack(const PostNormConfig& config);
  /// `bias` as in attend(), undefined for models without one; `observe` may be empty and sees
  /// "layer.<index>".
  void forward(at::Tensor& hidden, std::span<const SequenceRun> runs, const AttentionBias& bias,
               const Observer& observe) const;

 private:
  PostNormConfig config_;
  std::vector<std::unique_ptr<PostNormBlock>> blocks_;
};

}  // namespace muster::nn
