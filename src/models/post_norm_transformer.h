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

  TransformerFacts facts() const;
};

/// Embeddings and a stack of post-norm blocks: the encoder that BERT and its kin share. An architecture gives
/// it its config; one that also biases its attention derives from it.
class PostNormTransformer : public Transformer {
 public:
  explicit PostNormTransformer(const PostNormTransformerConfig& config);
  at::Tensor forward(const TokenBatch& batch) const final;  // [rows, hidden]

 protected:
  /// For max_positions tokens; none unless an architecture has one.
  virtual const nn::AttentionBias& attention_bias() const { return no_bias_; }

 private:
  nn::AttentionBias no_bias_;
  nn::TokenEmbeddings embeddings_;
  nn::PostNormStack blocks_;
};

}  // namespace muster::models
