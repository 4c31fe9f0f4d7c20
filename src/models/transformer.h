// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/weights.h"
#include "muster/nn/post_norm_block.h"
#include "muster/nn/trainable.h"

namespace muster::models {

/// Position ids of a text's tokens: first, first + 1, ... Models that count like RoBERTa start behind
/// `padding_id`, and a padding token that is part of a text has that position itself and does not count.
struct PositionRule {
  std::int64_t first = 0;
  std::optional<std::uint32_t> padding_id;

  static PositionRule behind_padding(std::uint32_t id) { return {static_cast<std::int64_t>(id) + 1, id}; }
};

/// What transformers puts behind the encoder for sequence classification: a dense layer with an activation on
/// the first token's state, and a linear layer to the classes.
struct SequenceHead {
  std::string_view dense;  ///< literals
  Naming dense_naming = Naming::kAsIs;
  nn::Activation activation = nn::Activation::kTanh;
  std::string_view output;
};

/// Shares of elements dropped in training, at transformers' places.
struct DropoutRates {
  double embeddings = 0;  ///< behind their norm
  nn::BlockDropouts blocks;
  double head_input = 0;   ///< the first token's state
  double head_output = 0;  ///< in front of the head's last layer
};

/// What the rest of the room needs to know of a transformer.
struct TransformerFacts {
  std::int64_t layers = 0, hidden = 0, heads = 0, intermediate = 0, vocab = 0;
  std::int64_t max_positions = 0;  ///< tokens of the longest text
  PositionRule positions;
  WeightRules weights;
  std::string_view pooler;  ///< dense layer (tanh) on the first token's state, behind the prefix; "": none
  SequenceHead head;
  DropoutRates dropouts;
  std::string transformers_name;  ///< of its classes there: "Bert" of BertModel; "": it cannot be trained
};

/// Texts one after another, padded to whole tiles behind the last.
struct TokenBatch {
  at::Tensor ids;        // int64 [rows]
  at::Tensor positions;  // int64 [rows]
  std::vector<nn::SequenceRun> runs;
  nn::Observer observe;  ///< may be empty
};

/// Texts one after another, nothing behind the last.
struct TrainingBatch {
  at::Tensor ids;        // int64 [rows]
  at::Tensor positions;  // int64 [rows]
  std::shared_ptr<const nn::trainable::Texts> texts;
  nn::trainable::Randomness randomness;
};

struct TrainingRules {
  DropoutRates dropouts;
  std::int64_t frozen_blocks = 0;
  nn::Insides insides = nn::Insides::kKept;
};

/// Token ids in, hidden states out: what an architecture provides.
class Transformer : public nn::Module {
 public:
  const TransformerFacts& facts() const { return facts_; }
  virtual at::Tensor forward(const TokenBatch& batch) const = 0;  // [rows, hidden]
  /// The same in a module whose parameters hold autograd leaves: no prepare() before it. [rows, hidden]
  virtual at::Tensor forward_training(const TrainingBatch& batch, const TrainingRules& rules) const;
  /// Number of the block that a parameter is part of, for those that are part of one.
  virtual std::optional<std::int64_t> block_of(const std::string& /*parameter*/) const {
    return std::nullopt;
  }

 protected:
  explicit Transformer(TransformerFacts facts) : facts_(std::move(facts)) {}

 private:
  TransformerFacts facts_;
};

}  // namespace muster::models
