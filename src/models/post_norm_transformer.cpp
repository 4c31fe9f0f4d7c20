// SPDX-License-Identifier: Apache-2.0
#include "models/post_norm_transformer.h"

#include <algorithm>

namespace muster::models {

TransformerFacts PostNormTransformerConfig::facts() const {
  return {.layers = blocks.layers,
          .hidden = blocks.hidden.size,
          .heads = blocks.heads,
          .intermediate = blocks.intermediate.size,
          .vocab = vocab.size,
          .max_positions = positions.size - position_rule.first,
          .positions = position_rule,
          .weights = weights,
          .pooler = pooler,
          .head = head,
          .dropouts = dropouts,
          .transformers_name = transformers_name};
}

PostNormTransformer::PostNormTransformer(const PostNormTransformerConfig& config)
    : Transformer(config.facts()),
      blocks_prefix_(config.blocks_name + "."),
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

at::Tensor PostNormTransformer::forward_training(const TrainingBatch& batch,
                                                 const TrainingRules& rules) const {
  const auto& lengths = batch.texts->lengths;
  const std::int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  constexpr std::uint32_t kEmbeddingsSite = 0;
  const nn::StackTraining training{.texts = batch.texts,
                                   .randomness = batch.randomness,
                                   .dropouts = rules.dropouts.blocks,
                                   .first_site = kEmbeddingsSite + 1,
                                   .frozen = rules.frozen_blocks,
                                   .insides = rules.insides,
                                   .distance_bias = [this, longest] { return distance_bias(longest); }};
  const at::Tensor hidden = embeddings_.forward_training(
      batch.ids, batch.positions, training.dropout(rules.dropouts.embeddings, kEmbeddingsSite));
  return blocks_.forward_training(hidden, training);
}

std::optional<std::int64_t> PostNormTransformer::block_of(const std::string& parameter) const {
  if (!parameter.starts_with(blocks_prefix_)) return std::nullopt;
  return std::stoll(parameter.substr(blocks_prefix_.size()));
}

}  // namespace muster::models
