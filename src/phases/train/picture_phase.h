// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "muster/core/philox.h"
#include "muster/phases/item_phase.h"
#include "phases/train/picture_options.h"
#include "phases/train/training_phase.h"

namespace muster::phases {

/// What the tasks on pictures have in common: the pictures, and weights that become a folder.
class PicturePhase : public TrainingPhase {
 public:
  io::Identity identity() const override;
  void check() override;
  std::uint64_t disk_bytes() const override;
  StepPlan plan(int ranks, int workers) const override;

 protected:
  explicit PicturePhase(const PhaseContext& context) : config_(context.config), device_(context.device) {}

  virtual const PictureOptions& options() const = 0;
  /// Of all that is trained, in the trainer's order.
  virtual std::vector<training::ParameterSpec> parameters() const = 0;
  /// Numbers that a picture keeps for backward, roughly; for the plan.
  virtual double kept_numbers() const = 0;
  virtual std::string task() const = 0;
  /// The part of the loss that a micro-batch makes: a sum over its pictures.
  virtual at::Tensor loss(const MicroBatch& batch) const = 0;
  virtual std::span<const at::Tensor> leaves(int worker) const = 0;

  const StepOptions& step_options() const override { return options(); }
  Items items() const override { return {all_, pictures_.lengths, Grouping::kNone}; }
  std::string item_name(std::uint32_t picture) const override { return pictures_.names[picture]; }
  std::string bad_step_remedy() const override { return "; lower train.lr, or raise train.warmup"; }
  training::Trainer& trainer() override { return engine_->trainer(); }
  StepOutcome train_on(std::span<const std::uint32_t> batch, std::uint64_t number) override;

  /// Collective, the steps of start(): pictures on every rank; then the trainer with the first weights.
  void load_pictures(StepContext& context);
  void make_engine(const std::vector<at::Tensor>& initial);
  /// Collective: what is published, fp32 on rank 0, in the trainer's order; empty elsewhere.
  std::vector<at::Tensor> gather_result();
  const PictureSet& pictures() const { return pictures_; }
  PictureSet& pictures() { return pictures_; }
  const config::Config& config() const { return config_; }
  const device::Device& device() const { return device_; }
  c10::ScalarType compute_dtype() const { return scalar_type(options().compute_type); }
  int workers() const { return workers_; }
  /// The random decisions about a picture in a step.
  core::Philox draws(std::uint32_t picture, std::uint64_t number) const;
  /// Standard normal numbers, `each` for every seed.
  static at::Tensor noise(std::span<const std::uint64_t> seeds, std::vector<std::int64_t> each);

 private:
  config::Config config_;
  device::Device device_;
  PictureSet pictures_;
  DocumentList all_;
  SlotWork work_;
  int workers_ = 1;
  std::unique_ptr<SlotEngine> engine_;
};

/// Numbers that residual blocks keep for backward: `blocks` of them over `pixels` pixels of `channels`.
double kept_by_blocks(double blocks, double channels, double pixels);

}  // namespace muster::phases
