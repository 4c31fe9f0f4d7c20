// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "models/sentence_folder.h"
#include "models/transformer.h"
#include "muster/models/trainable_classifier.h"

namespace muster::models {

struct TrainingHeadConfig {
  HeadKind kind = HeadKind::kLinear;
  Pooling pooling = Pooling::kCls;  ///< or kMean
  std::int64_t classes = 0;

  /// Whether it is the one that transformers puts on the architecture; the others are ours.
  bool is_transformers_own() const { return kind == HeadKind::kLinear && pooling == Pooling::kCls; }
  /// As classifier.json spells them.
  std::string kind_name() const { return kind == HeadKind::kBilinear ? "bilinear" : "linear"; }
  std::string pooling_name() const { return pooling == Pooling::kMean ? "mean" : "first"; }
};

/// A layer of a head, its parameters named as in its file. Heads compute in fp32 whatever the encoder does.
class HeadLayer : public nn::Module {
 public:
  virtual at::Tensor forward(const at::Tensor& x) const = 0;  ///< fp32 [texts, in] -> [texts, out]
};

struct HeadPart {
  std::unique_ptr<HeadLayer> layer;
  std::string name;  ///< below which the file has its tensors; "" when it has the file to itself
  StepWeights weights = StepWeights::kBesideEncoder;

  Naming naming() const { return weights == StepWeights::kEncoder ? Naming::kBehindPrefix : Naming::kAsIs; }
};

/// From hidden states to logits, with a graph back to the weights' values.
class TrainingHead {
 public:
  TrainingHead(const TrainingHeadConfig& config, const TransformerFacts& facts);
  /// `hidden` is [rows, hidden] of the batch; the result fp32 [texts, classes]. Elements are dropped at the
  /// sites `first_site` (the vector) and the next (in front of the last layer).
  at::Tensor forward(const at::Tensor& hidden, const TrainingBatch& batch, const DropoutRates& dropouts,
                     std::uint32_t first_site) const;
  const std::vector<HeadPart>& parts() const { return parts_; }

 private:
  TrainingHeadConfig config_;
  bool has_dense_ = false;  // the first of parts_, in front of the last
  std::vector<HeadPart> parts_;
};

}  // namespace muster::models
