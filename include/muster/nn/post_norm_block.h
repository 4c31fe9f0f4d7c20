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
#include "muster/nn/trainable.h"

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

/// Shares of elements that blocks drop in training.
struct BlockDropouts {
  double attention = 0;         ///< of the attention's probabilities
  double attention_output = 0;  ///< before its norm
  double output = 0;            ///< of the block, before its norm
};

/// What backward needs of a block: kept, or computed once more from the block's input.
enum class Insides : std::uint8_t { kKept, kRecomputed };

/// One training forward through a stack.
struct StackTraining {
  std::shared_ptr<const trainable::Texts> texts;
  trainable::Randomness randomness;
  BlockDropouts dropouts;
  std::uint32_t first_site = 0;  ///< a block has kSitesPerBlock
  std::int64_t frozen = 0;       ///< blocks from below that need no gradient: no graph is kept of them
  Insides insides = Insides::kKept;
  /// trainable::attend's distance bias, of leaves alone; empty: none.
  std::function<at::Tensor()> distance_bias;

  static constexpr std::uint32_t kSitesPerBlock = 3;
  trainable::Dropout dropout(double probability, std::uint32_t site) const {
    return {probability, site, randomness, texts};
  }
  at::Tensor make_distance_bias() const { return distance_bias ? distance_bias() : at::Tensor(); }
};

/// The transformer block of "Attention Is All You Need" (Vaswani et al., 2017), figure 1 left: attention and
/// feed-forward, each followed by add and norm.
class PostNormBlock : public Module {
 public:
  explicit PostNormBlock(const PostNormConfig& config);
  /// `hidden` [padded_rows(rows, target), hidden], updated in place.
  void forward(at::Tensor& hidden, std::span<const SequenceRun> runs, const AttentionBias& bias,
               BlockBuffers& buffers) const;
  /// [rows, hidden] of the texts -> the same, with a graph back to the weights' values. `first_site` is that
  /// of the block.
  at::Tensor forward_training(const at::Tensor& hidden, const at::Tensor& distance_bias,
                              const StackTraining& training, std::uint32_t first_site) const;

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
  at::Tensor forward_training(at::Tensor hidden, const StackTraining& training) const;

 private:
  at::Tensor train_block(std::size_t block, const at::Tensor& hidden, const at::Tensor& distance_bias,
                         const StackTraining& training) const;

  PostNormConfig config_;
  std::vector<std::unique_ptr<PostNormBlock>> blocks_;
};

}  // namespace muster::nn
