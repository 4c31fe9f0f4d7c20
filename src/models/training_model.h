// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/training_head.h"
#include "muster/formats/json.h"

namespace muster::models {

/// What part of a model a parameter belongs to.
enum class Stage {
  kEmbeddings,
  kShared,  ///< used by every block
  kBlocks,
  kHead,
};

struct TrainingParameter {
  std::string name;  ///< in its file, without the encoder's prefix
  nn::Parameter* parameter = nullptr;
  Stage stage = Stage::kHead;
  std::int64_t block = 0;  ///< of kBlocks
  StepWeights weights = StepWeights::kEncoder;
};

/// Encoder and head of a text classifier, whose parameters hold autograd leaves (or plain weights, for a
/// forward alone).
class TrainingModel {
 public:
  TrainingModel(const formats::JsonValue& config, const TrainingHeadConfig& head);
  /// fp32 [texts, classes].
  at::Tensor logits(const TrainingBatch& batch, const TrainingRules& rules) const;
  const Transformer& encoder() const { return *encoder_; }
  Transformer& encoder() { return *encoder_; }
  const TrainingHead& head() const { return head_; }
  /// In forward order.
  const std::vector<TrainingParameter>& parameters() const { return parameters_; }

 private:
  void collect_parameters();

  std::unique_ptr<Transformer> encoder_;
  TrainingHead head_;
  std::vector<TrainingParameter> parameters_;
};

/// Bytes that a text of `tokens` tokens keeps for backward.
double activation_bytes(const TransformerFacts& facts, const TrainingRules& rules, std::uint32_t tokens,
                        ComputeType type);

}  // namespace muster::models
