// SPDX-License-Identifier: Apache-2.0
#include "phases/train/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

#include "muster/core/clock.h"
#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "muster/text/lower_case.h"
#include "muster/text/tokenizer.h"
#include "muster/training/checkpoints.h"
#include "phases/labels/class_files.h"
#include "phases/labels/label_file.h"
#include "phases/text_model/model_choice.h"
#include "phases/train/engine.h"
#include "phases/train/loss_log.h"
#include "phases/train/options.h"
#include "phases/train/train_plan.h"
#include "phases/train/train_report.h"
#include "phases/train/train_state.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostBadSteps = 10;              // in a row, before the job gives up
constexpr double kSecondsBetweenLines = 10;              // of the console
constexpr std::uint64_t kValidationStream = UINT64_MAX;  // of random numbers; epochs count from 0

class TrainPhase : public StepPhase {
 public:
  explicit TrainPhase(const PhaseContext& context)
      : config_(context.config),
        device_(context.device),
        options_(read_train_options(config_)),
        folder_(find_model_folder(config_.string("model.path"))),
        space_(read_label_space(options_.classes, options_.hierarchy, "")),
        description_(models::describe_text_encoder(folder_, {.pooling = models::Pooling::kCls})),
        tokenizer_(text::Tokenizer::load(tokenizer_folder(folder_, description_))),
        max_length_(config_.is_auto("model.max_length")
                        ? description_.max_length
                        : std::min(description_.max_length,
                                   static_cast<std::uint32_t>(config_.integer("model.max_length")))) {
    if (tokenizer_.vocab_size() > description_.vocab) {
      throw core::DataError(
          fmt::format("{}: the tokenizer gives ids up to {}, but the model has {} word embeddings; "
                      "tokenizer.json and the weights do not belong together",
                      folder_, tokenizer_.vocab_size() - 1, description_.vocab));
    }
    if (options_.compute_type == models::ComputeType::kFp16 && device_.kind == device::Kind::kCpu)
      core::log::warning("run.dtype is fp16 on a CPU, which emulates it: bf16 and fp32 are far faster");
    options_.classifier.folder = folder_;
    options_.classifier.class_names = space_.names;
    for (const auto& name : space_.names) options_.classifier.class_tokens.push_back(name_tokens(name));
    model_ = std::make_unique<models::TrainableClassifier>(options_.classifier);
  }

  io::Identity identity() const override {
    io::Identity identity = model_digests(folder_, models::text_encoder_files(folder_));
    identity["labels.sha256"] = core::sha256_file(options_.labels);
    identity["classes.sha256"] = core::sha256_file(options_.classes);
    if (!options_.hierarchy.empty()) identity["hierarchy.sha256"] = core::sha256_file(options_.hierarchy);
    return identity;
  }

  StepPlan plan(int ranks, int workers) const override {
    return train_plan({.config = config_,
                       .options = options_,
                       .model = *model_,
                       .max_length = max_length_,
                       .ranks = ranks,
                       .workers = workers});
  }

  std::uint64_t disk_bytes() const override {
    // Masters and two moments a checkpoint, one of them being written; the result twice while it is.
    const auto weights = static_cast<std::uint64_t>(count_weights(*model_).all);
    const auto checkpoints = static_cast<std::uint64_t>(options_.keep_checkpoints) + 1;
    return weights * sizeof(float) * (3 * checkpoints + 3) + (std::uint64_t{1} << 20);
  }

  void check() override {
    read_labels(options_.labels, space_.names);
    model_->load_weights();  // damaged or mis-shaped weights are found here
  }

  void start(StepContext& context) override {
    context_ = &context;
    load_documents();
    const std::uint64_t batches = batches_of_epoch(training_.size(), options_.global_batch);
    total_ = std::min(batches * options_.epochs, options_.max_steps);
    engine_ =
        std::make_unique<TrainEngine>(EngineConfig{.options = options_,
                                                   .model = *model_,
                                                   .documents = documents_,
                                                   .device = device_,
                                                   .classes = space_.names.size(),
                                                   .total_steps = total_,
                                                   .backend = config_.string("run.backend"),
                                                   .nccl_timeout = config_.duration("run.nccl_timeout")},
                                      context);
    checkpoints_ = std::make_unique<training::Checkpoints>(
        training::Checkpoints::Config{.folder = context.run.run_file("checkpoints"),
                                      .keep = options_.keep_checkpoints},
        context.world.duplicate());
    if (const auto found = checkpoints_->newest()) {
      engine_->trainer().load(found->folder);
      state_ = TrainState::from_json(found->payload, found->folder);
    }
    saved_ = state_.batches;
    losses_.emplace(context.run.run_file("losses.csv"));
    comm::collectively(context.world, [&] {
      if (context.world.is_root()) losses_->cut_back(state_.batches);
    });
    note_facts();
  }

  bool finished() const override { return state_.stopped_early || state_.batches >= total_; }
  std::uint64_t steps_done() const override { return state_.batches; }
  std::uint64_t steps_total() const override { return total_; }
  std::uint64_t items_done() const override { return state_.documents; }
  std::uint64_t items_total() const override {
    const std::uint64_t all = training_.size() * options_.epochs;
    return std::min(all, total_ * options_.global_batch);
  }
  bool wants_checkpoint() const override {
    if (state_.batches == saved_) return false;
    return state_.batch == 0 ||
           (options_.checkpoint_steps > 0 && state_.batches - saved_ >= options_.checkpoint_steps);
  }

  void step() override {
    if (epoch_.empty() || planned_epoch_ != state_.epoch) {
      epoch_ = plan_epoch(
          training_, documents_.lengths(),
          {.seed = options_.seed, .global_batch = options_.global_batch, .grouping = options_.grouping},
          state_.epoch);
      planned_epoch_ = state_.epoch;
    }
    const auto& batch = epoch_[state_.batch];
    const StepOutcome outcome = engine_->step(batch, state_.batches);
    ++state_.batches;
    ++state_.batch;
    state_.documents += batch.size();
    note_step(batch, outcome);
    if (state_.batch == epoch_.size() || state_.batches == total_) end_epoch();
  }

  void save() override {
    if (losses_ && context_->world.is_root()) losses_->flush();
    checkpoints_->save(
        {.step = state_.batches, .payload = state_.to_json(), .write = [&](const std::string& folder) {
           return std::vector<std::string>{engine_->trainer().save(folder)};
         }});
    saved_ = state_.batches;
  }

  std::vector<std::string> publish() override {
    const auto weights = engine_->gather_weights();
    std::vector<std::string> files;
    comm::collectively(context_->world, [&] {
      if (!context_->world.is_root()) return;
      losses_->flush();
      // The best epoch's model is the result, the last one stands beside it.
      const std::string best = context_->run.run_file("best");
      const bool last_is_best = !state_.has_best || state_.best_epoch + 1 == state_.epoch;
      fs::remove_all(context_->run.file("last"));  // of an earlier job
      write_model(weights, context_->run.file(last_is_best ? "model" : "last"));
      if (!last_is_best && fs::exists(best)) replace_folder(best, context_->run.file("model"));
      for (const char* name : {"model", "last"}) add_files(name, files);
      core::publish_text(context_->run.file("classes.csv"), class_table(space_, documents_, training_));
      files.emplace_back("classes.csv");
      if (options_.keep_losses == KeepLosses::kYes) {
        core::publish_text(context_->run.file("losses.csv"), core::read_file(losses_->path(), UINT64_MAX));
        files.emplace_back("losses.csv");
      }
    });
    context_->facts["skipped_steps"] = std::to_string(state_.skipped);
    context_->facts["epochs"] = std::to_string(state_.epoch);
    if (state_.has_best) {
      context_->facts["best_epoch"] = std::to_string(state_.best_epoch + 1);
      context_->facts["best"] = fmt::format("{:.6g}", std::abs(state_.best));
    }
    return files;
  }

  std::string summary() const override {
    std::string text = fmt::format("loss {:.4g}, {} steps skipped", last_loss_, state_.skipped);
    if (state_.has_best)
      text += fmt::format(", best epoch {} ({} {:.4g})", state_.best_epoch + 1,
                          config_.string("train.best_by"), std::abs(state_.best));
    return text + (state_.stopped_early ? ", stopped early" : "");
  }

 private:
  std::vector<std::uint32_t> name_tokens(std::string name) const {
    std::replace(name.begin(), name.end(), '_', ' ');
    std::vector<std::uint32_t> ids;
    tokenize(name, ids);
    return ids;
  }

  // Safe from several threads; true when the text was cut.
  bool tokenize(const std::string& text, std::vector<std::uint32_t>& ids) const {
    thread_local text::Encoding encoding;
    tokenizer_.encode(description_.lower_case ? text::lower_case(text) : text, max_length_, encoding);
    ids = encoding.ids;
    return encoding.truncated();
  }

  // Documents with labels, tokenized, on every rank; some of them held out.
  void load_documents() {
    auto& world = context_->world;
    std::vector<DocumentLabels> labels;
    context_->begins("reading labels");
    comm::collectively(world, [&] {
      if (world.is_root()) labels = read_labels(options_.labels, space_.names);
    });
    const auto by_id = rows_by_id(labels);
    std::uint64_t unlabelled = 0;
    const auto targets = [&](const std::string& id, LabelledTargets& out) {
      const auto found = by_id.find(id);
      if (found == by_id.end() || labels[found->second].labels.empty()) {
        ++unlabelled;
        return false;
      }
      out = targets_of(labels[found->second]);
      ids_.push_back(id);
      return true;
    };
    documents_ = load_training_set(
        world, {.input = input_of(config_),
                .survey = context_->survey,
                .threads = options_.tokenizer_threads,
                .targets = targets,
                .tokenize = [&](const std::string& text,
                                std::vector<std::uint32_t>& ids) { return tokenize(text, ids); },
                .begins = context_->begins});
    if (world.is_root()) {
      context_->facts["unlabelled"] = std::to_string(unlabelled);
      if (unlabelled > 0) core::log::info("{} documents have no labels and are left out", unlabelled);
      if (labels.size() > documents_.size())
        core::log::warning("{} of {} labelled documents are not in the input",
                           labels.size() - documents_.size(), labels.size());
      if (documents_.size() == 0)
        core::log::warning(
            "no document has labels: nothing is trained; are the ids of {} those of the input?",
            options_.labels);
    }
    comm::collectively(world, [&] {
      if (documents_.size() == 0 && context_->survey.rows > 0)
        throw core::DataError(
            fmt::format("{} has no labels of any document of the input; are its ids those of {}?",
                        options_.labels, core::join(config_.strings("input.path"), ", ")));
    });
    hold_out();
  }

  LabelledTargets targets_of(const DocumentLabels& row) const {
    LabelledTargets out;
    out.weight = row.weight;
    const auto& hierarchy = options_.ancestors == Ancestors::kAdded ? space_.hierarchy : flat_;
    out.targets = taxonomy::make_targets(row.labels, hierarchy, options_.descendants);
    auto& ignored = out.targets.ignored;
    ignored.insert(ignored.end(), row.ignored.begin(), row.ignored.end());
    std::sort(ignored.begin(), ignored.end());
    ignored.erase(std::unique(ignored.begin(), ignored.end()), ignored.end());
    return out;
  }

  void hold_out() {
    const auto held = static_cast<std::size_t>(options_.validation * documents_.size());
    auto order = shuffled(documents_.size(), options_.seed, kValidationStream);
    validation_.assign(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(held));
    training_.assign(order.begin() + static_cast<std::ptrdiff_t>(held), order.end());
    std::sort(validation_.begin(), validation_.end());
    std::sort(training_.begin(), training_.end());
  }

  void note_facts() {
    auto& facts = context_->facts;
    facts["documents"] = std::to_string(documents_.size());
    facts["training_documents"] = std::to_string(training_.size());
    facts["validation_documents"] = std::to_string(validation_.size());
    facts["truncated"] = std::to_string(documents_.truncated());
    facts["classes"] = std::to_string(space_.names.size());
    facts["global_batch"] = std::to_string(options_.global_batch);
    for (const auto& [part, bytes] : engine_->trainer().memory())
      context_->metric("memory " + part, bytes, "bytes", state_.batches);
    context_->metric("memory data", documents_.bytes(), "bytes", state_.batches);
  }

  void note_step(const DocumentList& batch, const StepOutcome& outcome) {
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
    if (state_.batches % options_.log_every != 0 && state_.batches < total_) return;
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
                    state_.batches, total_, state_.epoch + 1, mean, report.learning_rate,
                    report.gradient_norm, report.loss_scale, state_.skipped);
    const double now = core::monotonic_seconds();
    if (now - last_line_ < kSecondsBetweenLines) {
      core::log::debug("{}", line);
      return;
    }
    core::log::info("{}", line);
    last_line_ = now;
  }

  // A gradient that stays non-finite although the loss scale cannot fall any further is no overflow.
  void tell_bad_step(const DocumentList& batch, const training::StepReport& report) {
    if (context_->world.is_root()) {
      std::vector<std::string> names;
      for (const std::uint32_t document : batch) names.push_back(core::printable(ids_[document]));
      core::log::warning(
          "step {}: the gradient of {} is not finite; the step is skipped. Documents of the batch: {}",
          state_.batches, report.first_non_finite, core::join(names, ", "));
    }
    if (state_.bad_in_a_row >= kMostBadSteps) {
      throw core::DataError(fmt::format(
          "{} steps in a row had a gradient that is not finite (first in {}): the training has diverged, or "
          "the model's weights hold NaN; lower train.lr, or check the model with `muster encode`",
          kMostBadSteps, report.first_non_finite));
    }
  }

  void end_epoch() {
    if (!validation_.empty()) evaluate();
    ++state_.epoch;
    state_.batch = 0;
  }

  void evaluate() {
    const Evaluation evaluation = engine_->evaluate(validation_);
    context_->metric("validation_loss", evaluation.loss, "", state_.batches);
    context_->metric("validation_example_f1", evaluation.example_f1, "", state_.batches);
    context_->metric("validation_p_at_1", evaluation.precision_at_1, "", state_.batches);
    const double score = options_.best_by == BestBy::kLoss ? evaluation.loss : -evaluation.example_f1;
    const bool better = !state_.has_best || score < state_.best;
    if (context_->world.is_root()) {
      core::log::info("epoch {}: validation loss {:.5g}, Example-F1 {:.4f}, P@1 {:.4f}{}", state_.epoch + 1,
                      evaluation.loss, evaluation.example_f1, evaluation.precision_at_1,
                      better ? " (the best so far)" : "");
    }
    if (better) {
      state_.has_best = true;
      state_.best = score;
      state_.best_epoch = state_.epoch;
      state_.epochs_without_better = 0;
      save_best();
    } else if (++state_.epochs_without_better >= options_.patience && options_.patience > 0) {
      state_.stopped_early = true;
    }
  }

  void save_best() {
    context_->begins("saving the best model");
    const auto weights = engine_->gather_weights();
    comm::collectively(context_->world, [&] {
      if (context_->world.is_root()) write_model(weights, context_->run.run_file("best"));
    });
  }

  // A whole folder or none.
  void write_model(const std::vector<at::Tensor>& weights, const std::string& folder) const {
    const std::string temporary = folder + ".tmp";
    fs::remove_all(temporary);
    core::make_directories(temporary);
    model_->save_folder(temporary, weights);
    core::sync_directory(temporary);
    replace_folder(temporary, folder);
  }

  static void replace_folder(const std::string& from, const std::string& to) {
    std::error_code error;
    fs::remove_all(to, error);
    fs::rename(from, to, error);
    if (error) throw core::OutputError(fmt::format("cannot rename {} to {}: {}", from, to, error.message()));
    core::sync_directory(fs::path(to).parent_path());
  }

  void add_files(const std::string& name, std::vector<std::string>& files) const {
    const std::string folder = context_->run.file(name);
    if (!fs::exists(folder)) return;
    std::vector<std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(folder))
      if (entry.is_regular_file()) found.push_back(fs::relative(entry.path(), context_->run.path()));
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }

  config::Config config_;
  device::Device device_;
  TrainOptions options_;
  std::string folder_;
  LabelSpace space_;
  models::EncoderDescription description_;
  text::Tokenizer tokenizer_;
  std::uint32_t max_length_;
  taxonomy::Hierarchy flat_{space_.names.size()};
  std::unique_ptr<models::TrainableClassifier> model_;

  StepContext* context_ = nullptr;
  TrainingSet documents_;
  std::vector<std::string> ids_;  ///< of the documents; rank 0
  DocumentList training_, validation_;
  std::uint64_t total_ = 0;  ///< batches
  std::unique_ptr<TrainEngine> engine_;
  std::unique_ptr<training::Checkpoints> checkpoints_;
  std::optional<LossLog> losses_;
  TrainState state_;
  std::uint64_t saved_ = 0;  ///< batches at the last checkpoint
  std::vector<DocumentList> epoch_;
  std::uint64_t planned_epoch_ = 0;
  double last_loss_ = 0, loss_sum_ = 0, last_line_ = 0;
  std::uint64_t losses_summed_ = 0;
};

std::map<std::string, std::string> decide_global_batch(const config::Config& config, int ranks) {
  if (!config.is_auto("train.global_batch")) return {};
  const std::int64_t batch =
      config.integer("train.batch_per_rank") * ranks * config.integer("train.accumulation");
  return {{"train.global_batch", std::to_string(batch)}};
}

}  // namespace

PhaseInfo train_phase() {
  PhaseInfo info;
  info.name = "train";
  info.item = "documents";
  info.unit = "tokens";
  info.schema = config::common_schema();
  // Batches are cut from the whole data set, and a document that does not fit is trained on as far as it
  // does.
  for (const char* key : {"run.schedule", "run.batch_size", "run.window_items", "run.on_truncate"})
    info.schema.remove(key);
  // The order in which gradients are added.
  info.schema.set_affects("run.batch_tokens", config::AffectsResults::kYes);
  info.schema.add(train_schema());
  info.create_step = [](const PhaseContext& context) { return std::make_unique<TrainPhase>(context); };
  info.resolve_once = decide_global_batch;
  info.report = train_sections;
  return info;
}

}  // namespace muster::phases
