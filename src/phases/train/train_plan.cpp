// SPDX-License-Identifier: Apache-2.0
#include "phases/train/train_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/clock.h"
#include "phases/runner/survey.h"

namespace muster::phases {
namespace {

constexpr double kProgramBytes = 250e6;  // LibTorch, MPI and the program itself, before a model is loaded

double bytes_of(models::ComputeType type) {
  return type == models::ComputeType::kFp32 ? 4 : 2;
}

int slots_of_rank(const TrainPlanInput& input) {
  if (input.options.reproducible == Reproducible::kNo) return input.workers;
  return (input.options.slots + input.ranks - 1) / input.ranks;
}

}  // namespace

WeightCounts count_weights(const models::TrainableClassifier& model) {
  WeightCounts counts;
  for (const auto& parameter : model.parameters()) {
    double count = 1;
    for (const auto size : parameter.shape) count *= static_cast<double>(size);
    counts.all += count;
    if (parameter.trainable) counts.trained += count;
  }
  return counts;
}

TrainMemory train_memory(const TrainPlanInput& input, models::ComputeType type) {
  const WeightCounts counts = count_weights(input.model);
  const double width = bytes_of(type);
  const int slots = slots_of_rank(input);
  const auto documents_a_rank = std::max(1.0, static_cast<double>(input.options.global_batch) / input.ranks);
  const double documents_a_slot = std::max(1.0, documents_a_rank / std::max(1, slots));
  const double fit = std::max(1.0, static_cast<double>(input.options.micro_batch_tokens / input.max_length));
  const double documents = std::min(documents_a_slot, fit);
  TrainMemory memory;
  memory.program = kProgramBytes;
  memory.weights = counts.all * width;
  memory.master = counts.trained * 4 / input.ranks;
  memory.optimizer = counts.trained * 8 / input.ranks;
  // What backward makes, what waits for the exchange, and the sums of this rank's part.
  memory.gradients = counts.trained * width * (1 + slots) + counts.trained * 4 / input.ranks;
  memory.activations = input.workers * documents * input.model.activation_bytes(input.max_length, type);
  return memory;
}

StepPlan train_plan(const TrainPlanInput& input) {
  const auto& options = input.options;
  const TrainMemory memory = train_memory(input, options.compute_type);
  const TrainMemory full = train_memory(input, models::ComputeType::kFp32);
  const WeightCounts counts = count_weights(input.model);
  StepPlan plan;
  plan.rank_bytes = memory.total();
  auto& text = plan.text;
  const auto row = [&](const std::string& name, const std::string& value) {
    text += fmt::format("  {:<26}{}\n", name, value);
  };
  const auto part = [&](const std::string& name, double bytes, double in_fp32) {
    row(name, fmt::format("{:>10}   {:>10} in fp32", core::human_bytes(bytes), core::human_bytes(in_fp32)));
  };
  text += fmt::format("plan: train on {} ranks x {} workers, {} {}\n", input.ranks, input.workers,
                      input.config.string("run.device"), input.config.string("run.dtype"));
  row("weights", fmt::format("{:.1f} M, {:.1f} M of them trained", counts.all / 1e6, counts.trained / 1e6));
  row("batch", fmt::format("{} documents of at most {} tokens, {:.1f} a rank", options.global_batch,
                           input.max_length, static_cast<double>(options.global_batch) / input.ranks));
  if (options.reproducible == Reproducible::kYes)
    row("reproducible", fmt::format("{} slots a batch, {} on this rank: their gradients travel one by one",
                                    options.slots, slots_of_rank(input)));
  text += "  memory a rank:\n";
  part("  program", memory.program, full.program);
  part("  weights", memory.weights, full.weights);
  part("  master weights", memory.master, full.master);
  part("  optimizer", memory.optimizer, full.optimizer);
  part("  gradients", memory.gradients, full.gradients);
  part("  activations", memory.activations, full.activations);
  part("  together", memory.total(), full.total());
  row("checkpoint",
      fmt::format("{} each, {} are kept", core::human_bytes(counts.trained * 12), options.keep_checkpoints));
  return plan;
}

}  // namespace muster::phases
