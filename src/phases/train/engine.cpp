// SPDX-License-Identifier: Apache-2.0
#include "phases/train/engine.h"

#include <ATen/Functions.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "muster/nn/backend.h"
#include "muster/taxonomy/decode.h"
#include "muster/taxonomy/metrics.h"

namespace muster::phases {
namespace {

constexpr std::size_t kEvaluationTokens = 8192;  // of a micro-batch without a backward pass

// Losses are added in fixed point, so that the sum does not depend on who evaluated what.
constexpr double kLossUnit = 1.0 / (std::uint64_t{1} << 32);
constexpr double kLargestLoss = 1 << 20;  // of a document; what is above it, or not a number, counts as that

double document_loss(std::span<const float> logits, std::span<const float> targets,
                     std::span<const float> weights) {
  double sum = 0;
  for (std::size_t c = 0; c < logits.size(); ++c) {
    const double z = logits[c];
    sum += weights[c] * (std::max(z, 0.0) - z * targets[c] + std::log1p(std::exp(-std::abs(z))));
  }
  return sum / static_cast<double>(logits.size());
}

}  // namespace

/// What a worker learns from the documents it evaluates.
struct TrainEngine::Judged {
  explicit Judged(std::size_t classes) : card(classes) {}
  taxonomy::Scorecard card;
  std::uint64_t loss = 0;  ///< in kLossUnit
};

TrainEngine::TrainEngine(const EngineConfig& config, StepContext& context)
    : config_(config), context_(context) {
  const auto& parameters = config.model.parameters();
  std::vector<at::Tensor> weights = config.model.load_weights();
  std::vector<training::ParameterSpec> specs;
  std::vector<at::Tensor> initial;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (!parameters[i].trainable) continue;
    trained_.push_back(i);
    specs.push_back({parameters[i].name, parameters[i].shape, parameters[i].decays});
    initial.push_back(weights[i]);
    weights[i] = at::Tensor();
  }
  frozen_ = std::move(weights);
  engine_ = std::make_unique<SlotEngine>(
      SlotEngineConfig{.options = config.options, .device = config.device, .total_steps = config.total_steps},
      std::move(specs), initial, context);
  make_replicas();
  const auto& description = config.model.description();
  work_ = {.lengths = config.documents.lengths(),
           .cost = {.per_item = 0,
                    .linear = description.linear_flops_per_token,
                    .quadratic = description.attention_flops_per_token2},
           .micro_batch = config.options.micro_batch_tokens,
           .leaves = [this](int worker) -> std::span<const at::Tensor> {
             return leaves_[static_cast<std::size_t>(worker)];
           },
           .loss = [this](const MicroBatch& batch, double scale) { return loss(batch, scale); },
           .too_large =
               [this](std::uint32_t document, const std::string& why) {
                 return fmt::format(
                     "training on one document of {} tokens: {}; use fewer workers, a smaller "
                     "model.max_length, or train.gradient_checkpointing: true",
                     config_.documents.lengths()[document], why);
               }};
}

TrainEngine::~TrainEngine() = default;

void TrainEngine::make_replicas() {
  const auto dtype = scalar_type(config_.options.compute_type);
  const auto device = nn::torch_device(config_.device);
  std::vector<at::Tensor> shared(frozen_.size());
  for (std::size_t i = 0; i < frozen_.size(); ++i)
    if (frozen_[i].defined()) shared[i] = frozen_[i].to(device, dtype);
  for (std::size_t i = 0; i < trained_.size(); ++i) shared[trained_[i]] = trainer().weights()[i];
  for (int worker = 0; worker < engine_->team().size(); ++worker) {
    replicas_.push_back(config_.model.make_replica(shared));
    auto& leaves = leaves_.emplace_back();
    for (const std::size_t parameter : trained_) leaves.push_back(replicas_.back()->leaves()[parameter]);
  }
}

StepOutcome TrainEngine::step(std::span<const std::uint32_t> batch, std::uint64_t number) {
  const bool mean = config_.options.reduction == nn::trainable::Reduction::kMean;
  const auto classes = static_cast<double>(config_.classes);
  return engine_->step(work_, batch, number, mean ? 1 / (static_cast<double>(batch.size()) * classes) : 1);
}

at::Tensor TrainEngine::loss(const MicroBatch& batch, double scale) const {
  const at::Tensor logits = forward(batch.worker, batch.items, batch.number, models::Mode::kTraining);
  const auto [target, weight] = targets(batch.items);
  return nn::trainable::classification_loss(logits, target, weight, scale, config_.options.loss);
}

at::Tensor TrainEngine::forward(int worker, std::span<const std::uint32_t> documents, std::uint64_t number,
                                models::Mode mode) const {
  std::vector<std::uint32_t> ids, lengths;
  std::vector<std::uint64_t> items;
  for (const std::uint32_t document : documents) {
    const auto tokens = config_.documents.ids(document);
    ids.insert(ids.end(), tokens.begin(), tokens.end());
    lengths.push_back(static_cast<std::uint32_t>(tokens.size()));
    items.push_back(config_.documents.row(document));
  }
  return replicas_[static_cast<std::size_t>(worker)]->logits(
      {.texts = {.ids = ids, .lengths = lengths},
       .items = items,
       .randomness = {.seed = config_.options.seed, .step = number}},
      mode);
}

std::pair<at::Tensor, at::Tensor> TrainEngine::targets(std::span<const std::uint32_t> documents) const {
  const auto classes = static_cast<std::int64_t>(config_.classes);
  const auto count = static_cast<std::int64_t>(documents.size());
  at::Tensor targets = at::empty({count, classes}, c10::ScalarType::Float);
  at::Tensor weights = at::empty({count, classes}, c10::ScalarType::Float);
  auto* target = targets.mutable_data_ptr<float>();
  auto* weight = weights.mutable_data_ptr<float>();
  for (const std::uint32_t document : documents) {
    const auto& label = config_.documents.labels(document);
    auto values = config_.options.target_values;
    values.positive_weight *= label.weight;
    values.negative_weight *= label.weight;
    const auto width = static_cast<std::size_t>(classes);
    taxonomy::write_row(label.targets, values, {target, width}, {weight, width});
    target += width;
    weight += width;
  }
  const auto device = nn::torch_device(config_.device);
  return {targets.to(device), weights.to(device)};
}

void TrainEngine::judge(std::span<const float> logits, const LabelledTargets& label, double loss,
                        Judged& judged) {
  const auto predicted = taxonomy::above_threshold(logits, 0.0F);  // of logits: a probability of one half
  judged.card.add({.gold = label.targets.positives, .predicted = predicted, .scores = logits});
  const double bounded = loss < kLargestLoss ? loss : kLargestLoss;  // also when it is not a number
  judged.loss += static_cast<std::uint64_t>(std::llround(bounded / kLossUnit));
}

void TrainEngine::evaluate_part(int worker, std::span<const std::uint32_t> documents, Judged& judged) const {
  const c10::NoGradGuard no_graph;
  const at::Tensor logits =
      forward(worker, documents, 0, models::Mode::kEvaluation).to(c10::DeviceType::CPU).contiguous();
  auto [target, weight] = targets(documents);
  target = target.to(c10::DeviceType::CPU);
  weight = weight.to(c10::DeviceType::CPU);
  const auto width = static_cast<std::size_t>(logits.size(1));
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const auto row = [&](const at::Tensor& x) {
      return std::span<const float>(x.const_data_ptr<float>() + i * width, width);
    };
    judge(row(logits), config_.documents.labels(documents[i]),
          document_loss(row(logits), row(target), row(weight)), judged);
  }
}

Evaluation TrainEngine::evaluate(std::span<const std::uint32_t> documents) {
  const auto lengths = config_.documents.lengths();
  DocumentList sorted(documents.begin(), documents.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return lengths[a] > lengths[b]; });
  DocumentList mine;  // neighbours in length go to different ranks
  for (auto i = static_cast<std::size_t>(context_.world.rank()); i < sorted.size();
       i += static_cast<std::size_t>(context_.world.size()))
    mine.push_back(sorted[i]);

  const auto cut = cut_micro_batches(mine, lengths, kEvaluationTokens);
  std::vector<Judged> judged(static_cast<std::size_t>(engine_->team().size()), Judged(config_.classes));
  std::atomic<std::size_t> next{0};
  context_.begins(fmt::format("evaluating {} documents", documents.size()));
  engine_->team().run([&](int worker) {
    models::prepare_compute_thread();
    for (std::size_t i; (i = next.fetch_add(1)) < cut.size();)
      evaluate_part(worker, cut[i], judged[static_cast<std::size_t>(worker)]);
  });
  for (std::size_t worker = 1; worker < judged.size(); ++worker) {
    judged[0].card.merge(judged[worker].card);
    judged[0].loss += judged[worker].loss;
  }
  context_.waits("the evaluation of the other ranks");
  context_.world.all_reduce(comm::Buffer(judged[0].card.sums()));
  const auto loss = context_.world.all_reduce_value(judged[0].loss, comm::Op::kSum);
  return {.loss = static_cast<double>(loss) * kLossUnit /
                  static_cast<double>(std::max<std::size_t>(documents.size(), 1)),
          .example_f1 = judged[0].card.example_f1().value,
          .precision_at_1 = judged[0].card.precision_at(1, taxonomy::PrecisionForm::kOverK),
          .documents = documents.size()};
}

std::vector<at::Tensor> TrainEngine::gather_weights() {
  const auto masters = trainer().gather_masters();
  if (!context_.world.is_root()) return {};
  std::vector<at::Tensor> weights = frozen_;
  for (std::size_t i = 0; i < trained_.size(); ++i) weights[trained_[i]] = masters[i];
  return weights;
}

}  // namespace muster::phases
