// SPDX-License-Identifier: Apache-2.0
#include "phases/train/engine.h"

#include <ATen/Functions.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>

#include "muster/comm/nccl.h"
#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/fault.h"
#include "muster/core/log.h"
#include "muster/nn/backend.h"
#include "muster/taxonomy/decode.h"
#include "muster/taxonomy/metrics.h"

namespace muster::phases {
namespace {

using training::More;

constexpr std::size_t kEvaluationTokens = 8192;  // of a micro-batch without a backward pass

// Activations come and go by the hundred megabytes every step: memory that is given back to the system each
// time has to be cleared by it each time.
void keep_freed_memory() {
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

c10::ScalarType scalar_type(models::ComputeType type) {
  switch (type) {
    case models::ComputeType::kBf16:
      return c10::ScalarType::BFloat16;
    case models::ComputeType::kFp16:
      return c10::ScalarType::Half;
    default:
      return c10::ScalarType::Float;
  }
}

// What carries gradients: NCCL between GPUs, or MPI, which then goes through the host.
comm::Communicator gradient_communicator(const EngineConfig& config, comm::Communicator& world) {
  if (config.device.kind == device::Kind::kCpu) return world.duplicate();
  if (config.backend == "nccl") {
    return comm::Communicator(comm::make_nccl_backend(
        world, {.device = config.device.index, .timeout_seconds = config.nccl_timeout}));
  }
  const auto* services = device::cuda_services();
  core::internal_check(services != nullptr, "a CUDA device without CUDA services");
  return comm::make_mpi_communicator({}, {services->copy_to_host, services->copy_to_device});
}

// All slots of all ranks: as many as there are workers, or a fixed number that is dealt to the ranks evenly.
std::vector<int> deal_slots(comm::Communicator& world, const TrainOptions& options, int workers) {
  if (options.reproducible == Reproducible::kNo) return world.all_gather_value(workers);
  std::vector<int> slots;
  for (int rank = 0; rank < world.size(); ++rank)
    slots.push_back(options.slots * (rank + 1) / world.size() - options.slots * rank / world.size());
  return slots;
}

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

/// The part of a batch that is one term of the gradient's sum.
struct TrainEngine::Slot {
  int local = 0;  ///< number on this rank
  DocumentList documents;
  double loss = 0;
};

TrainEngine::TrainEngine(const EngineConfig& config, StepContext& context)
    : config_(config),
      context_(context),
      slots_of_ranks_(deal_slots(context.world, config.options, context.workers)),
      team_(context.workers) {
  keep_freed_memory();
  const auto& description = config.model.description();
  cost_ = {.per_item = 0,
           .linear = description.linear_flops_per_token,
           .quadratic = description.attention_flops_per_token2};
  const int rank = context.world.rank();
  first_slot_ = std::accumulate(slots_of_ranks_.begin(), slots_of_ranks_.begin() + rank, 0);

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
  const auto dtype = scalar_type(config.options.compute_type);
  const auto device = nn::torch_device(config.device);
  auto schedule = config.options.schedule;
  schedule.total_steps = config.total_steps;
  schedule.warmup_steps = static_cast<std::uint64_t>(
      config.options.warmup < 1 ? std::ceil(config.options.warmup * static_cast<double>(config.total_steps))
                                : config.options.warmup);
  trainer_ = std::make_unique<training::Trainer>(
      std::move(specs), initial,
      training::TrainerConfig{.optimizer = config.options.optimizer,
                              .schedule = schedule,
                              .clip_norm = config.options.clip_norm,
                              .loss_scaler = config.options.loss_scaler,
                              .device = device,
                              .compute_dtype = dtype,
                              .wire_dtype = dtype,
                              .slots = slots_of_ranks_,
                              .summation = config.options.reproducible == Reproducible::kYes
                                               ? training::Summation::kSlots
                                               : training::Summation::kRanks},
      gradient_communicator(config, context.world));

  std::vector<at::Tensor> shared(parameters.size());
  for (std::size_t i = 0; i < frozen_.size(); ++i)
    if (frozen_[i].defined()) shared[i] = frozen_[i].to(device, dtype);
  for (std::size_t i = 0; i < trained_.size(); ++i) shared[trained_[i]] = trainer_->weights()[i];
  for (int worker = 0; worker < team_.size(); ++worker) {
    replicas_.push_back(config.model.make_replica(shared));
    auto& leaves = leaves_.emplace_back();
    for (const std::size_t parameter : trained_) leaves.push_back(replicas_.back()->leaves()[parameter]);
  }
}

TrainEngine::~TrainEngine() = default;

StepOutcome TrainEngine::step(std::span<const std::uint32_t> batch, std::uint64_t number) {
  const auto all_slots =
      static_cast<std::size_t>(std::accumulate(slots_of_ranks_.begin(), slots_of_ranks_.end(), 0));
  auto dealt = cut_slots(batch, config_.documents.lengths(), all_slots, cost_);
  std::vector<Slot> slots(
      static_cast<std::size_t>(slots_of_ranks_[static_cast<std::size_t>(context_.world.rank())]));
  for (std::size_t i = 0; i < slots.size(); ++i) {
    slots[i].local = static_cast<int>(i);
    slots[i].documents = std::move(dealt[static_cast<std::size_t>(first_slot_) + i]);
  }
  const bool mean = config_.options.reduction == nn::trainable::Reduction::kMean;
  const auto classes = static_cast<double>(config_.classes);
  const double scale = mean ? 1 / (static_cast<double>(batch.size()) * classes) : 1;

  trainer_->begin_step();
  run_slots(slots, number, scale);
  context_.waits("the gradients of the other ranks");
  StepOutcome outcome{.report = trainer_->end_step()};

  // In slot order whatever the ranks are, so that the figure is as reproducible as the weights.
  std::string losses;
  for (const auto& slot : slots) losses.append(reinterpret_cast<const char*>(&slot.loss), sizeof slot.loss);
  const auto parts = context_.world.gather_strings(losses);
  for (const auto& part : parts) {
    for (std::size_t at = 0; at < part.size(); at += sizeof(double)) {
      double loss;
      std::memcpy(&loss, part.data() + at, sizeof loss);
      outcome.loss += loss;
    }
  }
  outcome.loss = context_.world.broadcast_value(outcome.loss);
  return outcome;
}

void TrainEngine::run_slots(std::vector<Slot>& slots, std::uint64_t number, double scale) {
  std::atomic<std::size_t> next{0};
  team_.run([&](int worker) {
    models::prepare_compute_thread();
    for (std::size_t i; (i = next.fetch_add(1)) < slots.size();) run_slot(worker, slots[i], number, scale);
  });
}

void TrainEngine::run_slot(int worker, Slot& slot, std::uint64_t number, double scale) {
  if (slot.documents.empty()) {
    for (std::size_t i = 0; i < trained_.size(); ++i) trainer_->add_gradient(slot.local, i, {}, More::kNo);
    return;
  }
  const auto lengths = config_.documents.lengths();
  const auto cut = cut_micro_batches(slot.documents, lengths, config_.options.micro_batch_tokens);
  for (std::size_t i = 0; i < cut.size(); ++i) {
    MicroBatchNote note{.worker = worker, .begin = core::monotonic_seconds(), .lengths = {}};
    context_.batch_begins(worker);
    slot.loss +=
        run_micro_batch(worker, slot, cut[i], number, scale, i + 1 < cut.size() ? More::kYes : More::kNo);
    note.end = core::monotonic_seconds();
    for (const std::uint32_t document : cut[i]) note.lengths.push_back(lengths[document]);
    context_.batch_done(note);
  }
}

double TrainEngine::run_micro_batch(int worker, const Slot& slot, std::span<const std::uint32_t> documents,
                                    std::uint64_t number, double scale, More more) {
  at::Tensor loss;
  try {
    core::fault_point("train.forward");
    const at::Tensor logits = forward(worker, documents, number, models::Mode::kTraining);
    const auto [target, weight] = targets(documents);
    loss = nn::trainable::classification_loss(logits, target, weight, scale * trainer_->loss_scale(),
                                              config_.options.loss);
  } catch (const std::exception& error) {
    // Nothing was added to a gradient yet: two halves, one after the other, need half the memory.
    if (!nn::is_out_of_memory(error)) throw;
    if (documents.size() < 2)
      throw core::ResourceError(fmt::format(
          "training on one document of {} tokens: {}; use fewer workers, a smaller model.max_length, or "
          "train.gradient_checkpointing: true",
          config_.documents.lengths()[documents.front()], error.what()));
    core::log::warning("out of memory with {} documents in a micro-batch: it is halved ({})",
                       documents.size(), error.what());
    ::malloc_trim(0);
    const std::size_t half = documents.size() / 2;
    return run_micro_batch(worker, slot, documents.first(half), number, scale, More::kYes) +
           run_micro_batch(worker, slot, documents.subspan(half), number, scale, more);
  }
  nn::trainable::backward(loss, leaves_[static_cast<std::size_t>(worker)],
                          [&](std::size_t leaf, const at::Tensor& gradient) {
                            trainer_->add_gradient(slot.local, leaf, gradient, more);
                          });
  return loss.item<double>() / trainer_->loss_scale();
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
  std::vector<Judged> judged(static_cast<std::size_t>(team_.size()), Judged(config_.classes));
  std::atomic<std::size_t> next{0};
  context_.begins(fmt::format("evaluating {} documents", documents.size()));
  team_.run([&](int worker) {
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
  const auto masters = trainer_->gather_masters();
  if (!context_.world.is_root()) return {};
  std::vector<at::Tensor> weights = frozen_;
  for (std::size_t i = 0; i < trained_.size(); ++i) weights[trained_[i]] = masters[i];
  return weights;
}

}  // namespace muster::phases
