// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "muster/comm/communicator.h"
#include "muster/training/loss_scaler.h"
#include "muster/training/optimizer.h"
#include "muster/training/schedule.h"

namespace muster::training {

struct ParameterSpec {
  std::string name;
  std::vector<std::int64_t> shape;
  bool decays = true;  ///< weight decay applies
};

/// Whose gradients are added, and in which order.
enum class Summation {
  kRanks,  ///< a rank's slots are added there, then the ranks' sums in rank order
  kSlots,  ///< all slots in their global order, wherever they were computed: the same bits on any number of
           ///< ranks
};

struct TrainerConfig {
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  double clip_norm = 1.0;        ///< global L2 norm; 0: no clipping
  LossScalerConfig loss_scaler;  ///< off unless the compute type is fp16
  c10::Device device{c10::DeviceType::CPU};
  c10::ScalarType compute_dtype = c10::ScalarType::Float;
  c10::ScalarType wire_dtype = c10::ScalarType::Float;  ///< of gradients between ranks
  std::vector<int> slots{1};  ///< of every rank, in rank order; global slot numbers run over the ranks
  Summation summation = Summation::kRanks;
  std::uint64_t bucket_bytes = std::uint64_t{4} << 20;
  /// Beside the masters their moving average: after the n-th update a += (1 - d) (w - a), d = min(decay, (1 +
  /// n) / (10 + n)), so that it soon forgets the first weights. 0: none is kept.
  double average_decay = 0;
};

struct StepReport {
  double learning_rate = 0;
  double gradient_norm = 0;  ///< before clipping, of the unscaled gradient
  double loss_scale = 1;
  bool skipped = false;              ///< a gradient was not finite; neither weights nor schedule moved
  std::string first_non_finite;      ///< name of a parameter, when skipped at the smallest scale
  double exchange_wait_seconds = 0;  ///< after backward was done
  double update_seconds = 0;
};

enum class More { kYes, kNo };

/// Master weights, optimizer state, gradient exchange: everything of data-parallel training that does not
/// know the model. Weights are fp32 masters cut evenly over ranks, each rank updating its part (Rajbhandari
/// et al., "ZeRO", 2020, stage 1), beside a whole copy in the compute type. Gradients travel in buckets, in
/// the order in which backward finishes them, while it goes on.
class Trainer {
 public:
  /// Collective. `initial` are fp32, the same on all ranks, in the order of `parameters`. `world` is the
  /// trainer's own (a duplicate): a thread of its talks on it during a step.
  Trainer(std::vector<ParameterSpec> parameters, std::span<const at::Tensor> initial,
          const TrainerConfig& config, comm::Communicator world);
  /// In the midst of a step, other ranks may wait for this one for ever: then it ends the job.
  ~Trainer();

  /// In the compute type on the device; their contents change in end_step().
  std::span<const at::Tensor> weights() const;
  double loss_scale() const;

  void begin_step();
  /// Adds to the gradient of one parameter in local slot `slot`; undefined means zero. After More::kNo for
  /// every parameter of every local slot the rank's part is complete. Different slots may add from different
  /// threads.
  void add_gradient(int slot, std::size_t parameter, const at::Tensor& gradient, More more);
  /// Collective: waits for the sums, clips, updates, spreads the new weights. The same report on all ranks.
  StepReport end_step();

  std::uint64_t steps() const;  ///< updates made; skipped ones do not count
  /// Collective: all masters in fp32 on rank 0's host (empty elsewhere), in the order of the parameters.
  std::vector<at::Tensor> gather_masters();
  /// The same of the moving average, which must be kept.
  std::vector<at::Tensor> gather_averages();
  /// Bytes of this rank by part: "weights", "master weights", "moving average" where it is kept,
  /// "optimizer", "gradients".
  std::vector<std::pair<std::string, double>> memory() const;

  /// Collective. Writes this rank's part of the state into `folder` (a file a rank, synced; its name is
  /// returned), and reads it back on any number of ranks. DataError names a file that is missing, damaged or
  /// of other parameters; what was loaded until then is no state to train on.
  std::string save(const std::string& folder);
  void load(const std::string& folder);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::training
