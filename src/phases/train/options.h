// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>

#include "muster/config/schema.h"
#include "muster/models/trainable_classifier.h"
#include "muster/taxonomy/pseudo_labels.h"
#include "phases/train/epoch_plan.h"
#include "phases/train/step_options.h"

namespace muster::phases {

enum class Ancestors { kAsGiven, kAdded };
enum class BestBy { kLoss, kExampleF1 };

/// The keys of the task `classifier`, as values.
struct TrainOptions : StepOptions {
  std::string labels, classes, hierarchy;
  std::uint64_t micro_batch_tokens = 4096;
  Grouping grouping = Grouping::kByLength;
  int tokenizer_threads = 4;
  Ancestors ancestors = Ancestors::kAdded;
  taxonomy::DescendantMask descendants = taxonomy::DescendantMask::kOff;
  taxonomy::TargetValues target_values;
  nn::trainable::Reduction reduction = nn::trainable::Reduction::kMean;
  nn::trainable::LossConfig loss;
  double validation = 0;
  std::uint64_t patience = 0;
  BestBy best_by = BestBy::kLoss;
  models::ClassifierConfig classifier;  ///< without the class names
};

config::Schema train_schema();
/// ConfigError for combinations that make no sense.
TrainOptions read_train_options(const config::Config& config);

}  // namespace muster::phases
