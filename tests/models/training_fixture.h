// SPDX-License-Identifier: Apache-2.0
// What the tests of training share: the fixtures of generate_gradients.py, and one step on them.
#pragma once
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <numeric>

#include "models/fixture.h"
#include "muster/models/text_classifier.h"
#include "muster/models/trainable_classifier.h"

namespace muster::models {

struct TrainingRow {
  const char* name;
  const char* folder;  ///< below the fixtures
  HeadKind head = HeadKind::kLinear;
  std::optional<Pooling> pooling;
  bool has_head = true;  ///< false: the head's weights are the fixture's
};

inline void PrintTo(const TrainingRow& row, std::ostream* out) {
  *out << row.name;
}

inline constexpr TrainingRow kTrainingRows[] = {
    {"bert", "classifiers/bert"},
    {"bert_bilinear", "classifiers/bilinear_first", HeadKind::kBilinear},
    {"bert_gelu_new_mean", "bert_gelu_new", HeadKind::kLinear, Pooling::kMean, false},
    {"camembert", "camembert_cls", HeadKind::kLinear, {}, false},
    {"distilbert", "classifiers/distilbert"},
    {"distilbert_mean", "classifiers/linear_mean", HeadKind::kLinear, Pooling::kMean},
    {"mpnet", "classifiers/mpnet"},
    {"mpnet_bilinear_mean", "classifiers/bilinear_mean", HeadKind::kBilinear, Pooling::kMean},
    {"roberta", "classifiers/roberta"},
    {"roberta_relu_mean", "roberta_lm_head", HeadKind::kLinear, Pooling::kMean, false},
    {"xlm_roberta", "xlm_roberta_sqrt", HeadKind::kLinear, {}, false},
};

inline const TrainingRow& training_row(std::string_view name) {
  for (const TrainingRow& row : kTrainingRows)
    if (name == row.name) return row;
  throw std::runtime_error("no such row");
}

inline std::vector<std::string> class_names(std::size_t count) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) names.push_back(fmt::format("class {}", i));
  return names;
}

using Gradients = std::map<std::string, at::Tensor>;

/// Texts, targets, and what torch makes of them.
class TrainingFixture {
 public:
  explicit TrainingFixture(const TrainingRow& row)
      : row_(row),
        file_(formats::Safetensors::open(
            (fixture_root() / "gradients" / fmt::format("{}.safetensors", row.name)).string())) {
    ids = values_of<std::uint32_t>(file_, "ids");
    lengths = values_of<std::uint32_t>(file_, "lengths");
    items.resize(lengths.size());
    std::iota(items.begin(), items.end(), 100);
  }

  std::string folder() const { return (fixture_root() / row_.folder).string(); }

  ClassifierConfig config() const {
    ClassifierConfig config{.folder = folder(), .head = row_.head, .pooling = row_.pooling};
    config.class_names = row_.has_head ? describe_text_classifier(folder()).class_names
                                       : class_names(tensor("logits").size(1));
    config.class_tokens.assign(config.class_names.size(), {2, 5, 3});
    return config;
  }

  /// The folder's weights, and the fixture's for those that it lacks.
  std::vector<at::Tensor> weights(const TrainableClassifier& classifier) const {
    std::vector<at::Tensor> weights = classifier.load_weights();
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const std::string name = "weight:" + classifier.parameters()[i].name;
      if (file_.find(name)) weights[i] = tensor(name);
    }
    return weights;
  }

  TrainingTexts texts(const nn::trainable::Randomness& randomness = {}) const {
    return {{ids, lengths}, items, randomness};
  }

  at::Tensor tensor(const std::string& name) const {
    const auto view = file_.find(name);
    if (!view) throw std::runtime_error("the fixture lacks " + name);
    at::Tensor out =
        at::empty(std::vector<std::int64_t>(view->shape.begin(), view->shape.end()), c10::ScalarType::Float);
    std::memcpy(out.mutable_data_ptr(), view->bytes.data(), view->bytes.size());
    return out;
  }

  Gradients gradients() const {
    constexpr std::string_view kPrefix = "gradient:";
    Gradients out;
    for (const std::string& name : file_.names())
      if (name.starts_with(kPrefix)) out[name.substr(kPrefix.size())] = tensor(name);
    return out;
  }

  std::vector<std::uint32_t> ids, lengths;
  std::vector<std::uint64_t> items;

 private:
  const TrainingRow& row_;
  formats::Safetensors file_;
};

struct Step {
  at::Tensor logits, loss;
  Gradients gradients;  ///< of the leaves that got one
};

/// The mean of binary cross entropy, forward and backward.
inline Step take_step(const TrainableClassifier& classifier, std::span<const at::Tensor> weights,
                      const TrainingTexts& texts, const at::Tensor& targets, Mode mode = Mode::kTraining) {
  const auto replica = classifier.make_replica(weights);
  Step step{.logits = replica->logits(texts, mode)};
  step.loss = nn::trainable::classification_loss(step.logits, targets, at::ones_like(targets),
                                                 1.0 / static_cast<double>(targets.numel()), {});
  if (mode == Mode::kTraining)
    nn::trainable::backward(step.loss, replica->leaves(), [&](std::size_t leaf, const at::Tensor& gradient) {
      if (gradient.defined()) step.gradients[classifier.parameters()[leaf].name] = gradient.clone();
    });
  step.logits = step.logits.detach();
  step.loss = step.loss.detach();
  return step;
}

inline Step take_step(const TrainingFixture& fixture, const ClassifierConfig& config,
                      c10::ScalarType type = c10::ScalarType::Float,
                      const nn::trainable::Randomness& randomness = {}) {
  const TrainableClassifier classifier(config);
  std::vector<at::Tensor> weights = fixture.weights(classifier);
  for (at::Tensor& weight : weights) weight = weight.to(type);
  return take_step(classifier, weights, fixture.texts(randomness), fixture.tensor("targets"));
}

inline double largest(const at::Tensor& x) {
  return x.numel() ? x.abs().max().item().toDouble() : 0;
}

inline double difference(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() ? largest(a.to(at::kFloat) - b.to(at::kFloat)) : INFINITY;
}

}  // namespace muster::models
