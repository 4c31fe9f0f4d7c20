// SPDX-License-Identifier: Apache-2.0
#include "models/training_head.h"

#include <ATen/Functions.h>

#include <numeric>

#include "muster/nn/linear.h"

namespace muster::models {
namespace {

at::Tensor widen(const at::Tensor& value) {
  return value.defined() ? value.to(c10::ScalarType::Float) : value;
}

class HeadLinear final : public HeadLayer {
 public:
  HeadLinear(const std::string& name, nn::Extent in, nn::Extent out, nn::Activation activation)
      : linear_(in, out), activation_(activation) {
    add_child(name, linear_);
  }

  at::Tensor forward(const at::Tensor& x) const override {
    return nn::activate(nn::trainable::linear(x, widen(linear_.weight_value()), widen(linear_.bias_value())),
                        activation_);
  }

 private:
  nn::Linear linear_;
  nn::Activation activation_;
};

/// (x W) E^T: how near a document is to the classes, measured by W.
class HeadBilinear final : public HeadLayer {
 public:
  HeadBilinear(nn::Extent hidden, nn::Extent classes)
      : weight_(add_parameter("bilinear.weight", {hidden, hidden})),
        classes_(add_parameter("class_embeddings.weight", {classes, hidden})) {}

  at::Tensor forward(const at::Tensor& x) const override {
    const at::Tensor projected = nn::trainable::linear(x, widen(weight_.value).t().contiguous(), {});
    return nn::trainable::linear(projected, widen(classes_.value), {});
  }

 private:
  nn::Parameter& weight_;
  nn::Parameter& classes_;
};

// [rows, hidden] -> fp32 [texts, hidden]
at::Tensor pool_first(const at::Tensor& hidden, const nn::trainable::Texts& texts) {
  std::vector<std::int64_t> first_rows(texts.lengths.size());
  std::exclusive_scan(texts.lengths.begin(), texts.lengths.end(), first_rows.begin(), std::int64_t{0});
  const at::Tensor rows = at::tensor(first_rows, c10::ScalarType::Long).to(hidden.device());
  return widen(hidden.index_select(0, rows));
}

// Row by row in one order, whatever is beside a text.
at::Tensor pool_mean(const at::Tensor& hidden, const nn::trainable::Texts& texts) {
  const std::vector<std::int64_t> lengths(texts.lengths.begin(), texts.lengths.end());
  const at::Tensor counts = at::tensor(lengths, c10::ScalarType::Long).to(hidden.device());
  return at::segment_reduce(widen(hidden), "mean", counts, /*indices=*/std::nullopt,
                            /*offsets=*/std::nullopt, /*axis=*/0, /*unsafe=*/true);
}

// A vector a text: elements are numbered within it.
std::shared_ptr<const nn::trainable::Texts> vectors_of(const nn::trainable::Texts& texts) {
  auto vectors = std::make_shared<nn::trainable::Texts>();
  vectors->lengths.assign(texts.lengths.size(), 1);
  vectors->items = texts.items;
  vectors->runs = nn::runs_of_equal_length(vectors->lengths);
  vectors->rows = static_cast<std::int64_t>(texts.lengths.size());
  return vectors;
}

}  // namespace

TrainingHead::TrainingHead(const TrainingHeadConfig& config, const TransformerFacts& facts)
    : config_(config) {
  const nn::Extent hidden{facts.hidden, "hidden_size"}, classes{config.classes, "classes"};
  const auto add = [&](std::string_view view, nn::Extent out, nn::Activation activation,
                       StepWeights weights) {
    const std::string name(view);
    parts_.push_back({std::make_unique<HeadLinear>(name, hidden, out, activation), name, weights});
  };
  if (config.is_transformers_own()) {
    const SequenceHead& head = facts.head;
    add(head.dense, hidden, head.activation,
        head.dense_naming == Naming::kBehindPrefix ? StepWeights::kEncoder : StepWeights::kBesideEncoder);
    add(head.output, classes, nn::Activation::kIdentity, StepWeights::kBesideEncoder);
  } else {
    if (config.pooling == Pooling::kCls)
      add(facts.pooler, hidden, nn::Activation::kTanh, StepWeights::kEncoder);
    if (config.kind == HeadKind::kBilinear)
      parts_.push_back({std::make_unique<HeadBilinear>(hidden, classes), "", StepWeights::kClassifierFile});
    else
      add("classifier", classes, nn::Activation::kIdentity, StepWeights::kClassifierFile);
  }
  has_dense_ = parts_.size() > 1;
}

at::Tensor TrainingHead::forward(const at::Tensor& hidden, const TrainingBatch& batch,
                                 const DropoutRates& dropouts, std::uint32_t first_site) const {
  const bool drops = config_.kind == HeadKind::kLinear;  // the bilinear head has none
  const auto vectors = vectors_of(*batch.texts);
  const auto drop = [&](const at::Tensor& x, double probability, std::uint32_t site) {
    return nn::trainable::drop(x, {drops ? probability : 0, site, batch.randomness, vectors});
  };
  at::Tensor x = config_.pooling == Pooling::kMean ? pool_mean(hidden, *batch.texts)
                                                   : pool_first(hidden, *batch.texts);  // [texts, hidden]
  if (has_dense_) x = parts_.front().layer->forward(drop(x, dropouts.head_input, first_site));
  return parts_.back().layer->forward(drop(x, dropouts.head_output, first_site + 1));  // [texts, classes]
}

}  // namespace muster::models
