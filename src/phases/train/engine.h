// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "muster/models/trainable_classifier.h"
#include "muster/phases/step_phase.h"
#include "muster/training/trainer.h"
#include "phases/train/options.h"
#include "phases/train/training_set.h"
#include "phases/train/worker_team.h"

namespace muster::phases {

struct StepOutcome {
  training::StepReport report;
  double loss = 0;  ///< of the whole batch, by the reduction
};

/// What documents that nothing is learnt from tell about the model.
struct Evaluation {
  double loss = 0;        ///< mean over documents and classes
  double example_f1 = 0;  ///< of all classes at or above one half, at least one
  double precision_at_1 = 0;
  std::uint64_t documents = 0;
};

struct EngineConfig {
  const TrainOptions& options;
  const models::TrainableClassifier& model;
  const TrainingSet& documents;
  device::Device device;
  std::size_t classes = 0;
  std::uint64_t total_steps = 0;  ///< of the schedule
  std::string backend = "mpi";    ///< "nccl" between GPUs
  double nccl_timeout = 3600;     ///< seconds
};

/// Model, optimizer and worker threads of a training job: takes batches of documents, on all ranks together.
class TrainEngine {
 public:
  /// Collective.
  TrainEngine(const EngineConfig& config, StepContext& context);
  ~TrainEngine();

  /// Collective: one step on a whole batch, of which every rank computes its slots. `number` is what random
  /// decisions are keyed by.
  StepOutcome step(std::span<const std::uint32_t> batch, std::uint64_t number);
  /// Collective; the same on every rank, whatever their number.
  Evaluation evaluate(std::span<const std::uint32_t> documents);

  training::Trainer& trainer() { return *trainer_; }
  /// Collective: fp32 weights of the whole model in the order of its parameters; on rank 0, empty elsewhere.
  std::vector<at::Tensor> gather_weights();

 private:
  struct Slot;
  void run_slots(std::vector<Slot>& slots, std::uint64_t number, double scale);
  void run_slot(int worker, Slot& slot, std::uint64_t number, double scale);
  double run_micro_batch(int worker, const Slot& slot, std::span<const std::uint32_t> documents,
                         std::uint64_t number, double scale, training::More more);
  at::Tensor forward(int worker, std::span<const std::uint32_t> documents, std::uint64_t number,
                     models::Mode mode) const;
  /// fp32 [documents, classes]: targets, then weights.
  std::pair<at::Tensor, at::Tensor> targets(std::span<const std::uint32_t> documents) const;
  struct Judged;
  static void judge(std::span<const float> logits, const LabelledTargets& label, double loss, Judged& judged);
  void evaluate_part(int worker, std::span<const std::uint32_t> documents, Judged& judged) const;

  EngineConfig config_;
  StepContext& context_;
  std::vector<int> slots_of_ranks_;
  int first_slot_ = 0;  ///< of this rank
  plan::CostModel cost_;
  std::vector<at::Tensor> frozen_;    ///< fp32, by parameter; undefined where it is trained
  std::vector<std::size_t> trained_;  ///< parameter of each of the trainer's
  std::unique_ptr<training::Trainer> trainer_;
  std::vector<std::unique_ptr<models::ClassifierReplica>> replicas_;  ///< one a worker
  std::vector<std::vector<at::Tensor>> leaves_;                       ///< of each replica, the trained ones
  WorkerTeam team_;
};

}  // namespace muster::phases
