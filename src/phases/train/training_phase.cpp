// SPDX-License-Identifier: Apache-2.0
#include "phases/train/training_phase.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostBadSteps = 10;  // in a row, before the job gives up
constexpr double kSecondsBetweenLines = 10;  // of the console

}  // namespace

std::uint64_t TrainingPhase::items_total() const {
  const auto& options = step_options();
  return std::min(items().training.size() * options.epochs, total_ * options.global_batch);
}

bool TrainingPhase::wants_checkpoint() const {
  if (state_.batches == saved_) return false;
  const auto every = step_options().checkpoint_steps;
  return state_.batch == 0 || (every > 0 && state_.batches - saved_ >= every);
}

std::uint64_t TrainingPhase::count_steps(StepContext& context) {
  context_ = &context;
  const auto& options = step_options();
  const std::uint64_t batches = batches_of_epoch(items().training.size(), options.global_batch);
  total_ = std::min(batches * options.epochs, options.max_steps);
  return total_;
}

void TrainingPhase::resume() {
  checkpoints_ = std::make_unique<training::Checkpoints>(
      training::Checkpoints::Config{.folder = context_->run.run_file("checkpoints"),
                                    .keep = step_options().keep_checkpoints},
      context_->world.duplicate());
  if (const auto found = checkpoints_->newest()) {
    trainer().load(found->folder);
    state_ = TrainState::from_json(found->payload, found->folder);
  }
  saved_ = state_.batches;
  losses_.emplace(context_->run.run_file("losses.csv"));
  comm::collectively(context_->world, [&] {
    if (context_->world.is_root()) losses_->cut_back(state_.batches);
  });
}

void TrainingPhase::note_memory(double data_bytes) {
  for (const auto& [part, bytes] : trainer().memory())
    context_->metric("memory " + part, bytes, "bytes", state_.batches);
  context_->metric("memory data", data_bytes, "bytes", state_.batches);
}

void TrainingPhase::step() {
  if (epoch_.empty() || planned_epoch_ != state_.epoch) {
    const auto& options = step_options();
    const auto [training, lengths, grouping] = items();
    epoch_ = plan_epoch(training, lengths,
                        {.seed = options.seed, .global_batch = options.global_batch, .grouping = grouping},
                        state_.epoch);
    planned_epoch_ = state_.epoch;
  }
  const auto& batch = epoch_[state_.batch];
  const StepOutcome outcome = train_on(batch, state_.batches);
  ++state_.batches;
  ++state_.batch;
  state_.documents += batch.size();
  note_step(batch, outcome);
  if (state_.batch < epoch_.size() && state_.batches < total_) return;
  end_epoch();
  ++state_.epoch;
  state_.batch = 0;
}

void TrainingPhase::save() {
  if (losses_ && context_->world.is_root()) losses_->flush();
  checkpoints_->save(
      {.step = state_.batches, .payload = state_.to_json(), .write = [&](const std::string& folder) {
         return std::vector<std::string>{trainer().save(folder)};
       }});
  saved_ = state_.batches;
}

void TrainingPhase::note_step(const DocumentList& batch, const StepOutcome& outcome) {
  const auto& report = outcome.report;
  last_loss_ = outcome.loss;
  state_.skipped += report.skipped;
  if (!report.first_non_finite.empty()) {
    ++state_.bad_in_a_row;
    tell_bad_step(batch, report);
  } else {
    state_.bad_in_a_row = 0;
  }
  if (!context_->world.is_root()) return;
  losses_->add(state_.batches, state_.epoch + 1, batch.size(), outcome);
  loss_sum_ += outcome.loss;
  ++losses_summed_;
  if (state_.batches % step_options().log_every == 0 || state_.batches >= total_) tell_progress(report);
}

void TrainingPhase::tell_progress(const training::StepReport& report) {
  const double mean = loss_sum_ / static_cast<double>(losses_summed_);
  loss_sum_ = 0;
  losses_summed_ = 0;
  context_->metric("loss", mean, "", state_.batches);
  context_->metric("learning_rate", report.learning_rate, "", state_.batches);
  context_->metric("gradient_norm", report.gradient_norm, "", state_.batches);
  context_->metric("loss_scale", report.loss_scale, "", state_.batches);
  context_->metric("skipped_steps", static_cast<double>(state_.skipped), "steps", state_.batches);
  context_->metric("exchange_wait", report.exchange_wait_seconds, "s", state_.batches);
  context_->metric("update", report.update_seconds, "s", state_.batches);
  const auto line =
      fmt::format("step {}/{} epoch {} loss {:.5g} lr {:.3g} gradient norm {:.3g} scale {:g} skipped {}",
                  state_.batches, total_, state_.epoch + 1, mean, report.learning_rate, report.gradient_norm,
                  report.loss_scale, state_.skipped);
  const double now = core::monotonic_seconds();
  if (now - last_line_ < kSecondsBetweenLines) {
    core::log::debug("{}", line);
    return;
  }
  core::log::info("{}", line);
  last_line_ = now;
}

// A gradient that stays non-finite although the loss scale cannot fall any further is no overflow.
void TrainingPhase::tell_bad_step(const DocumentList& batch, const training::StepReport& report) {
  if (context_->world.is_root()) {
    std::vector<std::string> names;
    for (const std::uint32_t item : batch) names.push_back(core::printable(item_name(item)));
    core::log::warning("step {}: the gradient of {} is not finite; the step is skipped. Of the batch: {}",
                       state_.batches, report.first_non_finite, core::join(names, ", "));
  }
  if (state_.bad_in_a_row >= kMostBadSteps) {
    throw core::DataError(
        fmt::format("{} steps in a row had a gradient that is not finite (first in {}): the training has "
                    "diverged{}",
                    kMostBadSteps, report.first_non_finite, bad_step_remedy()));
  }
}

void TrainingPhase::publish_losses(std::vector<std::string>& files) {
  comm::collectively(context_->world, [&] {
    if (!context_->world.is_root()) return;
    losses_->flush();
    if (step_options().keep_losses == KeepLosses::kNo) return;
    core::publish_text(context_->run.file("losses.csv"), core::read_file(losses_->path(), UINT64_MAX));
    files.emplace_back("losses.csv");
  });
  context_->facts["skipped_steps"] = std::to_string(state_.skipped);
  context_->facts["epochs"] = std::to_string(state_.epoch);
}

std::string TrainingPhase::summary() const {
  return fmt::format("loss {:.4g}, {} steps skipped", last_loss_, state_.skipped);
}

void TrainingPhase::replace_folder(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::remove_all(to, error);
  fs::rename(from, to, error);
  if (error) throw core::OutputError(fmt::format("cannot rename {} to {}: {}", from, to, error.message()));
  core::sync_directory(fs::path(to).parent_path());
}

void TrainingPhase::add_files(const std::string& name, std::vector<std::string>& files) const {
  const std::string folder = context_->run.file(name);
  if (!fs::exists(folder)) return;
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) found.push_back(fs::relative(entry.path(), context_->run.path()));
  std::sort(found.begin(), found.end());
  files.insert(files.end(), found.begin(), found.end());
}

}  // namespace muster::phases
