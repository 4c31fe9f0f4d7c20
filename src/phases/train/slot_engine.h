// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "muster/device/device.h"
#include "muster/phases/step_phase.h"
#include "muster/training/trainer.h"
#include "phases/train/epoch_plan.h"
#include "phases/train/step_options.h"
#include "phases/train/worker_team.h"

namespace muster::phases {

struct StepOutcome {
  training::StepReport report;
  double loss = 0;  ///< of the whole batch, by the reduction
};

c10::ScalarType scalar_type(models::ComputeType type);

/// A part of a batch that goes through a model at once.
struct MicroBatch {
  int worker = 0;
  std::span<const std::uint32_t> items;
  std::uint64_t number = 0;  ///< of the step: what random decisions are keyed by
};

/// What a task tells the engine of its items.
struct SlotWork {
  std::span<const std::uint32_t> lengths;  ///< of all items
  plan::CostModel cost;                    ///< of an item by its length
  std::uint64_t micro_batch = 1;           ///< lengths that go through a model at once
  /// A worker's own leaves on the trainer's weights, in its order.
  std::function<std::span<const at::Tensor>(int worker)> leaves;
  /// The part of the batch's loss that these items make, times `scale`, with a graph back to the leaves.
  std::function<at::Tensor(const MicroBatch&, double scale)> loss;
  /// What to do when one item alone does not fit into memory: "training on ...; use ...".
  std::function<std::string(std::uint32_t item, const std::string& why)> too_large;
};

struct SlotEngineConfig {
  const StepOptions& options;
  device::Device device;
  std::uint64_t total_steps = 0;  ///< of the schedule
};

/// What data-parallel training has in common whatever the model is: the trainer, worker threads, and the
/// slots that a batch is dealt into. Collective, as its trainer.
class SlotEngine {
 public:
  /// `initial` are fp32 on the host, the same on all ranks.
  SlotEngine(const SlotEngineConfig& config, std::vector<training::ParameterSpec> parameters,
             std::span<const at::Tensor> initial, StepContext& context);

  /// One step on a whole batch, of which every rank computes its slots; `scale` is a factor of every item's
  /// loss.
  StepOutcome step(const SlotWork& work, std::span<const std::uint32_t> batch, std::uint64_t number,
                   double scale);
  training::Trainer& trainer() { return *trainer_; }
  WorkerTeam& team() { return team_; }

 private:
  struct Slot;
  struct Step;
  void run_slots(const Step& step, std::vector<Slot>& slots);
  void run_slot(const Step& step, int worker, Slot& slot);
  double run_micro_batch(const Step& step, const Slot& slot, const MicroBatch& batch, training::More more);
  double sum_losses(const std::vector<Slot>& slots);

  StepOptions options_;
  StepContext& context_;
  std::vector<int> slots_of_ranks_;
  int first_slot_ = 0;  ///< of this rank
  std::size_t parameters_ = 0;
  std::unique_ptr<training::Trainer> trainer_;
  WorkerTeam team_;
};

}  // namespace muster::phases
