// SPDX-License-Identifier: Apache-2.0
#include "models/post_norm_transformer.h"

namespace muster::models {

TransformerFacts PostNormTransformerConfig::facts() const {
  return {.layers = blocks.layers,
          .hidden = blocks.hidden.size,
          .heads = blocks.heads,
          .intermediate = blocks.intermediate.size,
          .vocab = vocab.size,
          .max_positions = positions.size - position_rule.first,
          .positions = position_rule,
          .weights = weights};
}

PostNormTransformer::PostNormTransformer(const PostNormTransformerConfig& config)
    : Transformer(config.facts()),
      embeddings_({.vocab = config.vocab,
                   .positions = config.positions,
                   .token_types = config.token_types,
                   .hidden = config.blocks.hidden,
                   .layer_norm_epsilon = config.blocks.layer_norm_epsilon}),
      blocks_(config.blocks) {
  add_child("embeddings", embeddings_);
  add_child(config.blocks_name, blocks_);
}

at::Tensor PostNormTransformer::forward(const TokenBatch& batch) const {
  at::Tensor hidden = embeddings_.forward(batch.ids, batch.positions);  // [rows, hidden]
  if (batch.observe) batch.observe("embeddings", hidden);
  blocks_.forward(hidden, batch.runs, attention_bias(), batch.observe);
  return hidden;
}

}  // namespace muster::models
