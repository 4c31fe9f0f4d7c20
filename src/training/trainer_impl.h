// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>

#include "training/exchange.h"

namespace muster::training {

/// A run of one's own elements that share the weight decay.
struct DecayRun {
  std::int64_t first = 0;  ///< from the beginning of the bucket's slice
  std::int64_t count = 0;
  bool decays = true;
};

struct Trainer::Impl {
  Impl(std::vector<ParameterSpec> specs, const TrainerConfig& trainer_config,
       comm::Communicator communicator);

  /// This rank's slice of a bucket.
  at::Tensor masters(std::size_t bucket) const;
  bool averages() const { return config.average_decay > 0; }
  at::Tensor own_weights(std::size_t bucket) const;
  at::Tensor own_part(const at::Tensor& own_flat, std::size_t bucket) const;
  void copy_to_weights(std::size_t bucket);
  void update_bucket(std::size_t bucket, const UpdateStep& step);
  /// Collective: all ranks' weights from their masters.
  void spread_masters();
  /// Collective: whole parameters on rank 0 from this rank's slices of all buckets.
  std::vector<at::Tensor> gather(const std::function<at::Tensor(std::size_t bucket)>& own);
  /// Views of a flat host array of the whole layout; none when it is undefined.
  std::vector<at::Tensor> whole_parameters(const at::Tensor& flat) const;
  StepReport skipped_step(StepReport report);

  std::vector<ParameterSpec> parameters;
  TrainerConfig config;
  comm::Communicator world;
  Layout layout;
  bool masters_are_weights;
  at::Tensor flat_weights;                        ///< everybody's, in the compute type
  at::Tensor flat_masters;                        ///< fp32, this rank's; undefined when they are the weights
  at::Tensor first_moment, second_moment;         ///< this rank's
  at::Tensor flat_averages;                       ///< this rank's; undefined when none is kept
  std::vector<at::Tensor> weights;                ///< of each parameter, in flat_weights
  std::vector<std::vector<DecayRun>> decay_runs;  ///< by bucket
  LossScaler scaler;
  GradientSlots slots;
  Exchange exchange;
  std::uint64_t steps = 0;
  bool in_step = false;
};

}  // namespace muster::training
