// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>

#include "muster/config/schema.h"
#include "muster/models/trainable_classifier.h"
#include "muster/taxonomy/pseudo_labels.h"
#include "muster/training/trainer.h"
#include "phases/train/epoch_plan.h"

namespace muster::phases {

enum class Reproducible { kNo, kYes };
enum class Ancestors { kAsGiven, kAdded };
enum class BestBy { kLoss, kExampleF1 };
enum class KeepLosses { kNo, kYes };

/// The keys under `train:`, as values.
struct TrainOptions {
  std::string labels, classes, hierarchy;
  std::uint64_t global_batch = 16;
  std::uint64_t micro_batch_tokens = 4096;
  std::uint64_t epochs = 3;
  std::uint64_t max_steps = 0;  ///< of batches; 0: no limit but the epochs
  Grouping grouping = Grouping::kByLength;
  Reproducible reproducible = Reproducible::kNo;
  int slots = 8;
  int tokenizer_threads = 4;
  Ancestors ancestors = Ancestors::kAdded;
  taxonomy::DescendantMask descendants = taxonomy::DescendantMask::kOff;
  taxonomy::TargetValues target_values;
  nn::trainable::Reduction reduction = nn::trainable::Reduction::kMean;
  nn::trainable::LossConfig loss;
  double validation = 0;
  std::uint64_t patience = 0;
  BestBy best_by = BestBy::kLoss;
  std::uint64_t log_every = 10;
  std::uint64_t checkpoint_steps = 0;
  int keep_checkpoints = 2;
  KeepLosses keep_losses = KeepLosses::kNo;
  std::uint64_t seed = 0;
  training::OptimizerConfig optimizer;
  training::ScheduleConfig schedule;  ///< its total is set once the documents are counted
  double warmup = 0;                  ///< below 1 a share of all steps, else steps
  double clip_norm = 1;
  training::LossScalerConfig loss_scaler;
  models::ComputeType compute_type = models::ComputeType::kFp32;
  models::ClassifierConfig classifier;  ///< without the class names
};

config::Schema train_schema();
/// ConfigError for combinations that make no sense.
TrainOptions read_train_options(const config::Config& config);

}  // namespace muster::phases
