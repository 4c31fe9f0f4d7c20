// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "muster/config/schema.h"
#include "muster/models/text_encoder.h"
#include "muster/training/trainer.h"

namespace muster::phases {

enum class Reproducible { kNo, kYes };
enum class KeepLosses { kNo, kYes };

/// What all tasks of `train` let one choose about steps, optimizer and checkpoints, as values.
struct StepOptions {
  std::uint64_t seed = 0;
  std::uint64_t global_batch = 16;
  std::uint64_t epochs = 3;
  std::uint64_t max_steps = 0;  ///< of batches; the largest number: no limit but the epochs
  Reproducible reproducible = Reproducible::kNo;
  int slots = 8;
  std::uint64_t log_every = 10;
  std::uint64_t checkpoint_steps = 0;
  int keep_checkpoints = 2;
  KeepLosses keep_losses = KeepLosses::kNo;
  training::OptimizerConfig optimizer;
  training::ScheduleConfig schedule;  ///< its total is set once the items are counted
  double warmup = 0;                  ///< below 1 a share of all steps, else steps
  double clip_norm = 1;
  training::LossScalerConfig loss_scaler;
  double average_decay = 0;  ///< of the moving average of the weights; 0: none
  models::ComputeType compute_type = models::ComputeType::kFp32;
  std::string backend = "mpi";  ///< "nccl" between GPUs
  double nccl_timeout = 3600;   ///< seconds
};

/// Their keys; `items` is what one trains on, for the words of the help page: "documents".
config::Schema step_schema(const std::string& items);
/// ConfigError for combinations that make no sense.
void read_step_options(const config::Config& config, StepOptions& options);
/// The key that the first start's ranks decide.
std::map<std::string, std::string> decide_global_batch(const config::Config& config, int ranks);

}  // namespace muster::phases
