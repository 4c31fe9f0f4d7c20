// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "models/transformer.h"
#include "muster/nn/post_norm_block.h"
#include "muster/nn/token_embeddings.h"

namespace muster::models {

struct PostNormTransformerConfig {
  nn::Extent vocab;
  nn::Extent positions;    ///< rows of the position table
  nn::Extent token_types;  ///< size 0: none
  nn::PostNormConfig blocks;
  PositionRule position_rule;
  std::string blocks_name = "encoder.layer";
  WeightRules weights;
  std::string_view pooler;  ///< see TransformerFacts
  SequenceHead head;
  DropoutRates dropouts;
  std::string transformers_name;

  TransformerFacts facts() const;
};

/// Embeddings and a stack of post-norm blocks: the encoder that BERT and its kin share. An architecture gives
/// it its config; one that also biases its attention derives from it.
class PostNormTransformer : public Transformer {
 public:
  explicit PostNormTransformer(const PostNormTransformerConfig& config);
  at::Tensor forward(const TokenBatch& batch) const final;  // [rows, hidden]
  at::Tensor forward_training(const TrainingBatch& batch, const TrainingRules& rules) const final;
  std::optional<std::int64_t> block_of(const std::string& parameter) const final;

 protected:
  /// For max_positions tokens; none unless an architecture has one.
  virtual const nn::AttentionBias& attention_bias() const { return no_bias_; }
  /// The same for training, for texts of at most `longest` tokens: fp32 [heads, 2 * longest - 1] with a
  /// graph, as nn::trainable::attend wants it.
  virtual at::Tensor distance_bias(std::int64_t /*longest*/) const { return {}; }

 private:
  nn::AttentionBias no_bias_;
  std::string blocks_prefix_;
  nn::TokenEmbeddings embeddings_;
  nn::PostNormStack blocks_;
};

}  // namespace muster::models
