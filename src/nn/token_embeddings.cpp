// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/token_embeddings.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

namespace muster::nn {

TokenEmbeddings::TokenEmbeddings(const TokenEmbeddingsConfig& config)
    : word_(config.vocab, config.hidden),
      position_(config.positions, config.hidden),
      norm_(config.hidden, config.layer_norm_epsilon) {
  add_child("word_embeddings", word_);
  add_child("position_embeddings", position_);
  if (config.token_types.size > 0) {
    token_type_.emplace(config.token_types, config.hidden);
    add_child("token_type_embeddings", *token_type_);
  }
  add_child("LayerNorm", norm_);
}

at::Tensor TokenEmbeddings::forward(const at::Tensor& ids, const at::Tensor& positions) const {
  at::Tensor sum = word_.forward(ids);                           // [rows, hidden]
  if (token_type_) sum.add_(token_type_->table().select(0, 0));  // a single text is all type 0
  sum.add_(position_.forward(positions));
  return norm_.forward(sum);
}

at::Tensor TokenEmbeddings::forward_training(const at::Tensor& ids, const at::Tensor& positions,
                                             const trainable::Dropout& dropout) const {
  at::Tensor sum = word_.forward_training(ids);  // [rows, hidden]
  if (token_type_) sum = sum + token_type_->table().select(0, 0);
  sum = sum + position_.forward_training(positions);
  return trainable::drop(norm_.forward_training(sum, {}, {}), dropout);
}

}  // namespace muster::nn
