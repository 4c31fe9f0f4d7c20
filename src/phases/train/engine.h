// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "muster/models/trainable_classifier.h"
#include "muster/phases/step_phase.h"
#include "phases/train/options.h"
#include "phases/train/slot_engine.h"
#include "phases/train/training_set.h"

namespace muster::phases {

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

  training::Trainer& trainer() { return engine_->trainer(); }
  /// Collective: fp32 weights of the whole model in the order of its parameters; on rank 0, empty elsewhere.
  std::vector<at::Tensor> gather_weights();

 private:
  void make_replicas();
  at::Tensor loss(const MicroBatch& batch, double scale) const;
  at::Tensor forward(int worker, std::span<const std::uint32_t> documents, std::uint64_t number,
                     models::Mode mode) const;
  /// fp32 [documents, classes]: targets, then weights.
  std::pair<at::Tensor, at::Tensor> targets(std::span<const std::uint32_t> documents) const;
  struct Judged;
  static void judge(std::span<const float> logits, const LabelledTargets& label, double loss, Judged& judged);
  void evaluate_part(int worker, std::span<const std::uint32_t> documents, Judged& judged) const;

  EngineConfig config_;
  StepContext& context_;
  std::vector<at::Tensor> frozen_;    ///< fp32, by parameter; undefined where it is trained
  std::vector<std::size_t> trained_;  ///< parameter of each of the trainer's
  std::vector<std::unique_ptr<models::ClassifierReplica>> replicas_;  ///< one a worker
  std::vector<std::vector<at::Tensor>> leaves_;                       ///< of each replica, the trained ones
  SlotWork work_;
  std::unique_ptr<SlotEngine> engine_;  ///< last: its workers use all of the above
};

}  // namespace muster::phases
