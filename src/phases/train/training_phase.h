// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "muster/phases/step_phase.h"
#include "muster/training/checkpoints.h"
#include "phases/train/loss_log.h"
#include "phases/train/slot_engine.h"
#include "phases/train/train_state.h"

namespace muster::phases {

/// What the tasks of `train` have in common around their steps: epochs over items that are shuffled and cut
/// into batches, losses.csv, metrics, checkpoints, exact resume.
class TrainingPhase : public StepPhase {
 public:
  bool finished() const override { return state_.stopped_early || state_.batches >= total_; }
  std::uint64_t steps_done() const override { return state_.batches; }
  std::uint64_t steps_total() const override { return total_; }
  std::uint64_t items_done() const override { return state_.documents; }
  std::uint64_t items_total() const override;
  bool wants_checkpoint() const override;
  void step() override;
  void save() override;
  std::string summary() const override;

 protected:
  /// The items that are trained on, and the length of every item.
  struct Items {
    std::span<const std::uint32_t> training, lengths;
    Grouping grouping = Grouping::kNone;
  };
  virtual const StepOptions& step_options() const = 0;
  virtual Items items() const = 0;
  virtual std::string item_name(std::uint32_t item) const = 0;  ///< on rank 0, for messages
  /// Collective.
  virtual StepOutcome train_on(std::span<const std::uint32_t> batch, std::uint64_t number) = 0;
  virtual training::Trainer& trainer() = 0;
  /// Collective: what is due behind the last batch of an epoch; state().epoch is that epoch still.
  virtual void end_epoch() {}
  /// What keeps a gradient from being finite besides a learning rate that is too high.
  virtual std::string bad_step_remedy() const = 0;

  /// The first thing in start(): batches of the whole job.
  std::uint64_t count_steps(StepContext& context);
  /// The last: goes on from the newest checkpoint.
  void resume();
  void note_memory(double data_bytes);
  StepContext& context() { return *context_; }
  TrainState& state() { return state_; }
  const TrainState& state() const { return state_; }
  /// Collective: losses.csv where it is asked for, and the facts that all tasks have.
  void publish_losses(std::vector<std::string>& files);

  /// The folder `to` becomes `from`, whole or not at all.
  static void replace_folder(const std::string& from, const std::string& to);
  /// Adds all files below a folder of the output directory.
  void add_files(const std::string& name, std::vector<std::string>& files) const;

 private:
  void note_step(const DocumentList& batch, const StepOutcome& outcome);
  void tell_progress(const training::StepReport& report);
  void tell_bad_step(const DocumentList& batch, const training::StepReport& report);

  StepContext* context_ = nullptr;
  std::uint64_t total_ = 0;  ///< batches
  std::unique_ptr<training::Checkpoints> checkpoints_;
  std::optional<LossLog> losses_;
  TrainState state_;
  std::uint64_t saved_ = 0;  ///< batches at the last checkpoint
  std::vector<DocumentList> epoch_;
  std::uint64_t planned_epoch_ = 0;
  double last_loss_ = 0, loss_sum_ = 0, last_line_ = 0;
  std::uint64_t losses_summed_ = 0;
};

}  // namespace muster::phases
