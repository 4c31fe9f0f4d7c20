// SPDX-License-Identifier: Apache-2.0
#include "phases/train/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "muster/text/lower_case.h"
#include "muster/text/tokenizer.h"
#include "phases/labels/class_files.h"
#include "phases/labels/label_file.h"
#include "phases/text_model/model_choice.h"
#include "phases/train/engine.h"
#include "phases/train/options.h"
#include "phases/train/train_plan.h"
#include "phases/train/train_report.h"
#include "phases/train/training_phase.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kValidationStream = UINT64_MAX;  // of random numbers; epochs count from 0

class ClassifierPhase : public TrainingPhase {
 public:
  explicit ClassifierPhase(const PhaseContext& context)
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
    load_documents(context);
    const std::uint64_t steps = count_steps(context);
    engine_ = std::make_unique<TrainEngine>(EngineConfig{.options = options_,
                                                         .model = *model_,
                                                         .documents = documents_,
                                                         .device = device_,
                                                         .classes = space_.names.size(),
                                                         .total_steps = steps},
                                            context);
    resume();
    note_facts();
  }

  std::vector<std::string> publish() override {
    const auto weights = engine_->gather_weights();
    std::vector<std::string> files;
    comm::collectively(context().world, [&] {
      if (!context().world.is_root()) return;
      const auto& run = context().run;
      // The best epoch's model is the result, the last one stands beside it.
      const std::string best = run.run_file("best");
      const bool last_is_best = !state().has_best || state().best_epoch + 1 == state().epoch;
      fs::remove_all(run.file("last"));  // of an earlier job
      write_model(weights, run.file(last_is_best ? "model" : "last"));
      if (!last_is_best && fs::exists(best)) replace_folder(best, run.file("model"));
      for (const char* name : {"model", "last"}) add_files(name, files);
      core::publish_text(run.file("classes.csv"), class_table(space_, documents_, training_));
      files.emplace_back("classes.csv");
    });
    publish_losses(files);
    if (state().has_best) {
      context().facts["best_epoch"] = std::to_string(state().best_epoch + 1);
      context().facts["best"] = fmt::format("{:.6g}", std::abs(state().best));
    }
    return files;
  }

  std::string summary() const override {
    std::string text = TrainingPhase::summary();
    if (state().has_best)
      text += fmt::format(", best epoch {} ({} {:.4g})", state().best_epoch + 1,
                          config_.string("train.best_by"), std::abs(state().best));
    return text + (state().stopped_early ? ", stopped early" : "");
  }

 protected:
  const StepOptions& step_options() const override { return options_; }
  Items items() const override { return {training_, documents_.lengths(), options_.grouping}; }
  std::string item_name(std::uint32_t document) const override { return ids_[document]; }
  training::Trainer& trainer() override { return engine_->trainer(); }
  StepOutcome train_on(std::span<const std::uint32_t> batch, std::uint64_t number) override {
    return engine_->step(batch, number);
  }
  void end_epoch() override {
    if (!validation_.empty()) evaluate();
  }
  std::string bad_step_remedy() const override {
    return ", or the model's weights hold NaN; lower train.lr, or check the model with `muster encode`";
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
  void load_documents(StepContext& context) {
    auto& world = context.world;
    std::vector<DocumentLabels> labels;
    context.begins("reading labels");
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
                .survey = context.survey,
                .threads = options_.tokenizer_threads,
                .targets = targets,
                .tokenize = [&](const std::string& text,
                                std::vector<std::uint32_t>& ids) { return tokenize(text, ids); },
                .begins = context.begins});
    if (world.is_root()) {
      context.facts["unlabelled"] = std::to_string(unlabelled);
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
      if (documents_.size() == 0 && context.survey.rows > 0)
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
    auto& facts = context().facts;
    facts["documents"] = std::to_string(documents_.size());
    facts["training_documents"] = std::to_string(training_.size());
    facts["validation_documents"] = std::to_string(validation_.size());
    facts["truncated"] = std::to_string(documents_.truncated());
    facts["classes"] = std::to_string(space_.names.size());
    facts["global_batch"] = std::to_string(options_.global_batch);
    note_memory(documents_.bytes());
  }

  void evaluate() {
    const Evaluation evaluation = engine_->evaluate(validation_);
    context().metric("validation_loss", evaluation.loss, "", state().batches);
    context().metric("validation_example_f1", evaluation.example_f1, "", state().batches);
    context().metric("validation_p_at_1", evaluation.precision_at_1, "", state().batches);
    const double score = options_.best_by == BestBy::kLoss ? evaluation.loss : -evaluation.example_f1;
    const bool better = !state().has_best || score < state().best;
    if (context().world.is_root()) {
      core::log::info("epoch {}: validation loss {:.5g}, Example-F1 {:.4f}, P@1 {:.4f}{}", state().epoch + 1,
                      evaluation.loss, evaluation.example_f1, evaluation.precision_at_1,
                      better ? " (the best so far)" : "");
    }
    if (better) {
      state().has_best = true;
      state().best = score;
      state().best_epoch = state().epoch;
      state().epochs_without_better = 0;
      save_best();
    } else if (++state().epochs_without_better >= options_.patience && options_.patience > 0) {
      state().stopped_early = true;
    }
  }

  void save_best() {
    context().begins("saving the best model");
    const auto weights = engine_->gather_weights();
    comm::collectively(context().world, [&] {
      if (context().world.is_root()) write_model(weights, context().run.run_file("best"));
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

  TrainingSet documents_;
  std::vector<std::string> ids_;  ///< of the documents; rank 0
  DocumentList training_, validation_;
  std::unique_ptr<TrainEngine> engine_;
};

}  // namespace

config::Key task_key() {
  return {.name = "train.task",
          .default_value = "classifier",
          .doc = "what is trained; each task has keys of its own",
          .flags = {"--task"},
          .affects = config::AffectsResults::kYes,
          .choices = {"classifier", "autoencoder", "text_to_image"},
          .chooses_schema = true};
}

PhaseInfo train_phase() {
  PhaseInfo info;
  info.name = "train";
  info.variant = "classifier";
  info.item = "documents";
  info.unit = "tokens";
  info.schema = config::common_schema();
  // Batches are cut from the whole data set, and a document that does not fit is trained on as far as it
  // does.
  for (const char* key : {"run.schedule", "run.batch_size", "run.window_items", "run.on_truncate"})
    info.schema.remove(key);
  // The order in which gradients are added.
  info.schema.set_affects("run.batch_tokens", config::AffectsResults::kYes);
  info.schema.add(task_key());
  info.schema.add(train_schema());
  info.create_step = [](const PhaseContext& context) { return std::make_unique<ClassifierPhase>(context); };
  info.resolve_once = decide_global_batch;
  info.report = train_sections;
  return info;
}

}  // namespace muster::phases
