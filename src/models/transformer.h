// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/weights.h"
#include "muster/nn/post_norm_block.h"

namespace muster::models {

/// Position ids of a text's tokens: first, first + 1, ... Models that count like RoBERTa start behind
/// `padding_id`, and a padding token that is part of a text has that position itself and does not count.
struct PositionRule {
  std::int64_t first = 0;
  std::optional<std::uint32_t> padding_id;

  static PositionRule behind_padding(std::uint32_t id) { return {static_cast<std::int64_t>(id) + 1, id}; }
};

/// What the rest of the room needs to know of a transformer.
struct TransformerFacts {
  std::int64_t layers = 0, hidden = 0, heads = 0, intermediate = 0, vocab = 0;
  std::int64_t max_positions = 0;  ///< tokens of the longest text
  PositionRule positions;
  WeightRules weights;
};

/// Texts one after another, padded to whole tiles behind the last.
struct TokenBatch {
  at::Tensor ids;        // int64 [rows]
  at::Tensor positions;  // int64 [rows]
  std::vector<nn::SequenceRun> runs;
  nn::Observer observe;  ///< may be empty
};

/// Token ids in, hidden states out: what an architecture provides.
class Transformer : public nn::Module {
 public:
  const TransformerFacts& facts() const { return facts_; }
  virtual at::Tensor forward(const TokenBatch& batch) const = 0;  // [rows, hidden]

 protected:
  explicit Transformer(TransformerFacts facts) : facts_(std::move(facts)) {}

 private:
  TransformerFacts facts_;
};

}  // namespace muster::models
