// SPDX-License-Identifier: Apache-2.0
#include "phases/train/slot_engine.h"

#include <fmt/format.h>
#include <malloc.h>

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
#include "muster/nn/trainable.h"

namespace muster::phases {
namespace {

using training::More;

// What carries gradients: NCCL between GPUs, or MPI, which then goes through the host.
comm::Communicator gradient_communicator(const SlotEngineConfig& config, comm::Communicator& world) {
  if (config.device.kind == device::Kind::kCpu) return world.duplicate();
  if (config.options.backend == "nccl") {
    return comm::Communicator(comm::make_nccl_backend(
        world, {.device = config.device.index, .timeout_seconds = config.options.nccl_timeout}));
  }
  const auto* services = device::cuda_services();
  core::internal_check(services != nullptr, "a CUDA device without CUDA services");
  return comm::make_mpi_communicator({}, {services->copy_to_host, services->copy_to_device});
}

// All slots of all ranks: as many as there are workers, or a fixed number that is dealt to the ranks evenly.
std::vector<int> deal_slots(comm::Communicator& world, const StepOptions& options, int workers) {
  if (options.reproducible == Reproducible::kNo) return world.all_gather_value(workers);
  std::vector<int> slots;
  for (int rank = 0; rank < world.size(); ++rank)
    slots.push_back(options.slots * (rank + 1) / world.size() - options.slots * rank / world.size());
  return slots;
}

training::TrainerConfig trainer_config(const SlotEngineConfig& config, std::vector<int> slots) {
  const StepOptions& options = config.options;
  const auto dtype = scalar_type(options.compute_type);
  auto schedule = options.schedule;
  schedule.total_steps = config.total_steps;
  schedule.warmup_steps = static_cast<std::uint64_t>(
      options.warmup < 1 ? std::ceil(options.warmup * static_cast<double>(config.total_steps))
                         : options.warmup);
  return {.optimizer = options.optimizer,
          .schedule = schedule,
          .clip_norm = options.clip_norm,
          .loss_scaler = options.loss_scaler,
          .device = nn::torch_device(config.device),
          .compute_dtype = dtype,
          .wire_dtype = dtype,
          .slots = std::move(slots),
          .summation = options.reproducible == Reproducible::kYes ? training::Summation::kSlots
                                                                  : training::Summation::kRanks,
          .average_decay = options.average_decay};
}

}  // namespace

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

/// The part of a batch that is one term of the gradient's sum.
struct SlotEngine::Slot {
  int local = 0;  ///< number on this rank
  DocumentList items;
  double loss = 0;
};

struct SlotEngine::Step {
  const SlotWork& work;
  std::uint64_t number;
  double scale;
};

SlotEngine::SlotEngine(const SlotEngineConfig& config, std::vector<training::ParameterSpec> parameters,
                       std::span<const at::Tensor> initial, StepContext& context)
    : options_(config.options),
      context_(context),
      slots_of_ranks_(deal_slots(context.world, config.options, context.workers)),
      parameters_(parameters.size()),
      team_(context.workers) {
  nn::keep_freed_memory();
  const int rank = context.world.rank();
  first_slot_ = std::accumulate(slots_of_ranks_.begin(), slots_of_ranks_.begin() + rank, 0);
  trainer_ = std::make_unique<training::Trainer>(std::move(parameters), initial,
                                                 trainer_config(config, slots_of_ranks_),
                                                 gradient_communicator(config, context.world));
}

StepOutcome SlotEngine::step(const SlotWork& work, std::span<const std::uint32_t> batch, std::uint64_t number,
                             double scale) {
  const auto all_slots =
      static_cast<std::size_t>(std::accumulate(slots_of_ranks_.begin(), slots_of_ranks_.end(), 0));
  auto dealt = cut_slots(batch, work.lengths, all_slots, work.cost);
  std::vector<Slot> slots(
      static_cast<std::size_t>(slots_of_ranks_[static_cast<std::size_t>(context_.world.rank())]));
  for (std::size_t i = 0; i < slots.size(); ++i) {
    slots[i].local = static_cast<int>(i);
    slots[i].items = std::move(dealt[static_cast<std::size_t>(first_slot_) + i]);
  }
  trainer_->begin_step();
  run_slots({work, number, scale}, slots);
  context_.waits("the gradients of the other ranks");
  StepOutcome outcome{.report = trainer_->end_step()};
  outcome.loss = sum_losses(slots);
  return outcome;
}

// In slot order whatever the ranks are, so that the figure is as reproducible as the weights.
double SlotEngine::sum_losses(const std::vector<Slot>& slots) {
  std::string losses;
  for (const auto& slot : slots) losses.append(reinterpret_cast<const char*>(&slot.loss), sizeof slot.loss);
  const auto parts = context_.world.gather_strings(losses);
  double sum = 0;
  for (const auto& part : parts) {
    for (std::size_t at = 0; at < part.size(); at += sizeof(double)) {
      double loss;
      std::memcpy(&loss, part.data() + at, sizeof loss);
      sum += loss;
    }
  }
  return context_.world.broadcast_value(sum);
}

void SlotEngine::run_slots(const Step& step, std::vector<Slot>& slots) {
  std::atomic<std::size_t> next{0};
  team_.run([&](int worker) {
    models::prepare_compute_thread();
    for (std::size_t i; (i = next.fetch_add(1)) < slots.size();) run_slot(step, worker, slots[i]);
  });
}

void SlotEngine::run_slot(const Step& step, int worker, Slot& slot) {
  if (slot.items.empty()) {
    for (std::size_t i = 0; i < parameters_; ++i) trainer_->add_gradient(slot.local, i, {}, More::kNo);
    return;
  }
  const auto lengths = step.work.lengths;
  const auto cut = cut_micro_batches(slot.items, lengths, step.work.micro_batch);
  for (std::size_t i = 0; i < cut.size(); ++i) {
    MicroBatchNote note{.worker = worker, .begin = core::monotonic_seconds(), .lengths = {}};
    context_.batch_begins(worker);
    slot.loss += run_micro_batch(step, slot, {.worker = worker, .items = cut[i], .number = step.number},
                                 i + 1 < cut.size() ? More::kYes : More::kNo);
    note.end = core::monotonic_seconds();
    for (const std::uint32_t item : cut[i]) note.lengths.push_back(lengths[item]);
    context_.batch_done(note);
  }
}

double SlotEngine::run_micro_batch(const Step& step, const Slot& slot, const MicroBatch& batch, More more) {
  at::Tensor loss;
  try {
    core::fault_point("train.forward");
    loss = step.work.loss(batch, step.scale * trainer_->loss_scale());
  } catch (const std::exception& error) {
    // Nothing was added to a gradient yet: two halves, one after the other, need half the memory.
    if (!nn::is_out_of_memory(error)) throw;
    if (batch.items.size() < 2)
      throw core::ResourceError(step.work.too_large(batch.items.front(), error.what()));
    core::log::warning("out of memory with {} items in a micro-batch: it is halved ({})", batch.items.size(),
                       error.what());
    ::malloc_trim(0);
    const std::size_t half = batch.items.size() / 2;
    MicroBatch first = batch, second = batch;
    first.items = batch.items.first(half);
    second.items = batch.items.subspan(half);
    return run_micro_batch(step, slot, first, More::kYes) + run_micro_batch(step, slot, second, more);
  }
  nn::trainable::backward(loss, step.work.leaves(batch.worker),
                          [&](std::size_t leaf, const at::Tensor& gradient) {
                            trainer_->add_gradient(slot.local, leaf, gradient, more);
                          });
  return loss.item<double>() / trainer_->loss_scale();
}

}  // namespace muster::phases
