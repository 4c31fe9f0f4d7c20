// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "muster/nn/norm.h"

namespace muster::nn {

struct TokenEmbeddingsConfig {
  Extent vocab;
  Extent positions;
  Extent token_types;  ///< size 0: the model has none
  Extent hidden;
  double layer_norm_epsilon = 1e-12;
};

/// What goes into the first block: the sum of word, position and (first) token-type embeddings, normalized.
class TokenEmbeddings : public Module {
 public:
  explicit TokenEmbeddings(const TokenEmbeddingsConfig& config);
  /// `ids` and `positions` are int64 [rows]; the result is [rows, hidden].
  at::Tensor forward(const at::Tensor& ids, const at::Tensor& positions) const;
  /// The same with a graph back to the tables; the result is dropped.
  at::Tensor forward_training(const at::Tensor& ids, const at::Tensor& positions,
                              const trainable::Dropout& dropout) const;

 private:
  Embedding word_, position_;
  std::optional<Embedding> token_type_;
  LayerNorm norm_;
};

}  // namespace muster::nn
