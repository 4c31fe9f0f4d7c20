// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/config/schema.h"
#include "muster/models/trainable_classifier.h"
#include "muster/phases/step_phase.h"
#include "phases/train/options.h"

namespace muster::phases {

/// Numbers of a model, and those of them that are trained.
struct WeightCounts {
  double all = 0, trained = 0;
};
WeightCounts count_weights(const models::TrainableClassifier& model);

struct TrainPlanInput {
  const config::Config& config;
  const TrainOptions& options;
  const models::TrainableClassifier& model;
  std::uint32_t max_length = 0;
  int ranks = 1;
  int workers = 1;
};

/// Memory of a rank by part, in bytes: what the config files alone tell. Activations are those of the largest
/// micro-batch a worker can get.
struct TrainMemory {
  double program = 0, weights = 0, master = 0, optimizer = 0, gradients = 0, activations = 0;
  double total() const { return program + weights + master + optimizer + gradients + activations; }
};
TrainMemory train_memory(const TrainPlanInput& input, models::ComputeType type);

/// The table that `muster plan` prints: steps, memory in the type of the job beside fp32, expected time.
StepPlan train_plan(const TrainPlanInput& input);

}  // namespace muster::phases
