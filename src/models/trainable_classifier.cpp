// SPDX-License-Identifier: Apache-2.0
#include "muster/models/trainable_classifier.h"

#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <filesystem>
#include <set>

#include "models/classifier_source.h"
#include "models/token_batch.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "muster/nn/backend.h"

namespace muster::models {
namespace {

constexpr std::size_t kMostClasses = std::size_t{1} << 20;

Pooling pooling_of(const ClassifierConfig& config) {
  const Pooling pooling = config.pooling.value_or(Pooling::kCls);
  if (pooling != Pooling::kCls && pooling != Pooling::kMean)
    throw core::ConfigError(fmt::format(
        "pooling is '{}', but a classifier is trained on the first token's vector (cls) or the mean of all",
        pooling_name(pooling)));
  return pooling;
}

void check_class_names(const std::vector<std::string>& names) {
  if (names.empty() || names.size() > kMostClasses)
    throw core::DataError(fmt::format("there are {} classes, expected 1 to {}", names.size(), kMostClasses));
  std::set<std::string_view> seen;
  for (const std::string& name : names)
    if (!seen.insert(name).second)
      throw core::DataError(fmt::format("class '{}' occurs twice", core::printable(name)));
}

ClassifierSource read_source(const ClassifierConfig& config) {
  if (!std::filesystem::is_directory(config.folder))
    throw core::DataError(fmt::format("{}: no such model folder", config.folder));
  check_class_names(config.class_names);
  SentenceFolder folder = read_transformer_folder(config.folder, transformer_folder_of(config.folder));
  auto json = formats::read_json(path_in(path_in(folder.folder, folder.transformer_folder), "config.json"));
  const TrainingHeadConfig head{.kind = config.head,
                                .pooling = pooling_of(config),
                                .classes = static_cast<std::int64_t>(config.class_names.size())};
  const TransformerFacts& facts = folder.transformer->facts();
  if (facts.transformers_name.empty())
    throw core::ConfigError(
        fmt::format("{} is a {}, which can encode but not be trained", config.folder, folder.model_type));
  if (config.head == HeadKind::kBilinear && head.pooling == Pooling::kCls && facts.pooler.empty())
    throw core::ConfigError(
        fmt::format("{} is a {}, which has no pooler behind its first token for the bilinear head; use mean "
                    "pooling",
                    config.folder, folder.model_type));
  if (config.frozen_layers > facts.layers)
    throw core::ConfigError(fmt::format("frozen_layers is {}, but {} has {} layers", config.frozen_layers,
                                        config.folder, facts.layers));
  return {std::move(folder), std::move(json), head, config.class_names};
}

bool is_frozen(const TrainingParameter& entry, const ClassifierConfig& config) {
  switch (entry.stage) {
    case Stage::kEmbeddings:
      return config.freeze_embeddings || config.frozen_layers > 0;
    case Stage::kShared:  // frozen blocks compute with it
      return config.frozen_layers > 0;
    case Stage::kBlocks:
      return entry.block < config.frozen_layers;
    case Stage::kHead:
      return false;
  }
  throw core::InternalError("unknown stage");
}

// As transformers' trainer decides it: no biases (MPNet's of the attention neither), no norms.
bool decays(const TrainingParameter& entry) {
  return entry.parameter->shape.size() > 1 && entry.name.find("bias") == std::string::npos;
}

class Replica final : public ClassifierReplica {
 public:
  Replica(const ClassifierSource& source, const ClassifierConfig& config, const TrainingRules& rules,
          std::span<const at::Tensor> weights)
      : model_(source.config, source.head), training_(rules) {
    const auto& parameters = model_.parameters();
    core::internal_check(weights.size() == parameters.size(), "a replica has a weight for every parameter");
    for (std::size_t i = 0; i < weights.size(); ++i) {
      core::internal_check(weights[i].sizes() == parameters[i].parameter->sizes(),
                           parameters[i].name + " of a replica has the parameter's shape");
      at::Tensor leaf = weights[i].detach();
      leaf.set_requires_grad(!is_frozen(parameters[i], config));
      parameters[i].parameter->value = leaf;
      leaves_.push_back(std::move(leaf));
    }
    target_ = {leaves_.front().device(), leaves_.front().scalar_type()};
  }

  at::Tensor logits(const TrainingTexts& texts, Mode mode) const override {
    const TransformerFacts& facts = model_.encoder().facts();
    core::internal_check(!texts.texts.lengths.empty(), "a micro-batch has texts");
    check_texts(texts.texts, facts);
    prepare_compute_thread();
    const c10::AutoGradMode graph(mode == Mode::kTraining);
    try {
      const TrainingBatch batch = make_training_batch(texts, facts.positions, target_);
      return model_.logits(batch, mode == Mode::kTraining ? training_ : TrainingRules{});
    } catch (const c10::Error& error) {
      nn::rethrow(error, fmt::format("a forward of {} texts of {} tokens", texts.texts.lengths.size(),
                                     texts.texts.ids.size()));
    }
  }

  std::span<const at::Tensor> leaves() const override { return leaves_; }

 private:
  TrainingModel model_;
  TrainingRules training_;
  std::vector<at::Tensor> leaves_;
  nn::ComputeTarget target_;
};

}  // namespace

HeadKind head_kind_from_name(const std::string& name) {
  if (name == "linear") return HeadKind::kLinear;
  if (name == "bilinear") return HeadKind::kBilinear;
  throw core::ConfigError(fmt::format("head '{}' is not known; known: linear, bilinear", name));
}

struct TrainableClassifier::Impl {
  explicit Impl(ClassifierConfig given)
      : config(std::move(given)),
        source(read_source(config)),
        model(source.config, source.head),
        description(source.folder.describe()) {
    describe();
    const std::string prefix = saved_prefix(source);
    for (const TrainingParameter& entry : model.parameters())
      parameters.push_back({.name = (entry.weights == StepWeights::kEncoder ? prefix : "") + entry.name,
                            .shape = entry.parameter->sizes(),
                            .decays = decays(entry),
                            .trainable = !is_frozen(entry, config)});
  }

  void describe() {
    description.dimensions = static_cast<std::uint32_t>(source.head.classes);
    description.pooling = {source.head.pooling};
    for (const HeadPart& part : model.head().parts())
      description.weight_count += part.layer->parameter_count();
  }

  TrainingRules rules() const {
    TrainingRules rules{.frozen_blocks = config.frozen_layers};
    if (config.dropouts == Dropouts::kAsConfigured) rules.dropouts = model.encoder().facts().dropouts;
    if (config.recompute == Recompute::kEveryLayer) rules.insides = nn::Insides::kRecomputed;
    return rules;
  }

  ClassifierConfig config;
  ClassifierSource source;
  TrainingModel model;  // its structure
  EncoderDescription description;
  std::vector<ClassifierParameter> parameters;
};

TrainableClassifier::TrainableClassifier(ClassifierConfig config)
    : impl_(std::make_unique<Impl>(std::move(config))) {}
TrainableClassifier::~TrainableClassifier() = default;

const EncoderDescription& TrainableClassifier::description() const {
  return impl_->description;
}

const std::vector<ClassifierParameter>& TrainableClassifier::parameters() const {
  return impl_->parameters;
}

std::vector<at::Tensor> TrainableClassifier::load_weights() const {
  prepare_compute_thread();
  TrainingModel model(impl_->source.config, impl_->source.head);
  return load_classifier_weights(
      impl_->source, {.seed = impl_->config.seed, .class_tokens = impl_->config.class_tokens}, model);
}

std::unique_ptr<ClassifierReplica> TrainableClassifier::make_replica(
    std::span<const at::Tensor> weights) const {
  return std::make_unique<Replica>(impl_->source, impl_->config, impl_->rules(), weights);
}

void TrainableClassifier::save_folder(const std::string& folder, std::span<const at::Tensor> weights) const {
  save_classifier(impl_->source, impl_->model, folder, weights);
}

double TrainableClassifier::activation_bytes(std::uint32_t tokens, ComputeType type) const {
  return models::activation_bytes(impl_->model.encoder().facts(), impl_->rules(), tokens, type);
}

}  // namespace muster::models
