// SPDX-License-Identifier: Apache-2.0
#include "phases/train/options.h"

#include <fmt/format.h>

#include "muster/core/error.h"

namespace muster::phases {
namespace {

using config::KeyType;
using enum config::KeyType;
constexpr auto kYes = config::AffectsResults::kYes;
constexpr auto kCompact = config::HelpPlace::kCompact;

void add_labels(config::Schema& schema) {
  schema
      .add({.name = "train.labels",
            .doc = "document id<TAB>class ids or names, comma-separated",
            .flags = {"--labels"},
            .required = true,
            .value_name = "FILE"})
      .add({.name = "taxonomy.classes",
            .doc = "class id<TAB>name, ids 0, 1, ...",
            .flags = {"--classes"},
            .required = true,
            .value_name = "FILE"})
      .add({.name = "taxonomy.hierarchy",
            .doc = "parent id<TAB>child id; none: the classes are flat",
            .flags = {"--hierarchy"},
            .value_name = "FILE"})
      .add({.name = "train.ancestors",
            .type = kBool,
            .default_value = "true",
            .doc = "a document's classes include all above them",
            .affects = kYes})
      .add({.name = "train.descendants",
            .default_value = "negative",
            .doc = "classes below a document's own: negative, or ignored",
            .affects = kYes,
            .choices = {"negative", "ignored", "ignored_as_published"}})
      .add({.name = "train.validation",
            .type = kFloat,
            .default_value = "0",
            .doc = "share of the documents held out, evaluated every epoch",
            .flags = {"--validation"},
            .affects = kYes,
            .minimum = 0,
            .maximum = 0.9})
      .add({.name = "train.best_by",
            .default_value = "loss",
            .doc = "what the best epoch is chosen by, on the documents held out",
            .affects = kYes,
            .choices = {"loss", "example_f1"}})
      .add({.name = "train.patience",
            .type = kInt,
            .default_value = "0",
            .doc = "stop after so many epochs without a better one; 0: never",
            .affects = kYes,
            .minimum = 0});
}

void add_model(config::Schema& schema) {
  schema
      .add({.name = "train.head",
            .default_value = "linear",
            .doc = "the architecture's own, or class embeddings",
            .flags = {"--head"},
            .affects = kYes,
            .choices = {"linear", "bilinear"}})
      .add({.name = "train.pooling",
            .default_value = "auto",
            .doc = "auto: the architecture's own (first token), or mean",
            .affects = kYes,
            .choices = {"auto", "mean"}})
      .add({.name = "model.max_length",
            .type = kInt,
            .default_value = "128",
            .doc = "tokens of a document; auto: as the folder says",
            .flags = {"--max-length"},
            .affects = kYes,
            .auto_allowed = true,
            .minimum = 3})
      .add({.name = "train.dropout",
            .default_value = "auto",
            .doc = "auto: as the model's config.json says",
            .affects = kYes,
            .choices = {"auto", "off"}})
      .add({.name = "train.frozen_layers",
            .type = kInt,
            .default_value = "0",
            .doc = "so many layers from below, and the embeddings, stay as they are",
            .affects = kYes,
            .minimum = 0})
      .add({.name = "train.freeze_embeddings",
            .type = kBool,
            .default_value = "false",
            .doc = "the embeddings stay as they are",
            .affects = kYes})
      .add({.name = "train.gradient_checkpointing",
            .type = kBool,
            .default_value = "false",
            .doc = "keep only every layer's input and compute it again: less memory, a third slower"});
}

void add_steps(config::Schema& schema) {
  schema
      .add({.name = "train.batch_per_rank",
            .type = kInt,
            .default_value = "16",
            .doc = "documents of a step on each rank",
            .flags = {"--batch-per-rank"},
            .minimum = 1,
            .maximum = 1 << 20})
      .add({.name = "train.accumulation",
            .type = kInt,
            .default_value = "1",
            .doc = "batches whose gradients make one step",
            .flags = {"--accumulation"},
            .minimum = 1,
            .maximum = 1 << 20})
      .add({.name = "train.global_batch",
            .type = kInt,
            .default_value = "auto",
            .doc = "documents of a step; auto: batch_per_rank x ranks",
            .flags = {"--global-batch"},
            .affects = kYes,
            .auto_allowed = true,
            .minimum = 1,
            .maximum = 1 << 24})
      .add({.name = "train.epochs",
            .type = kInt,
            .default_value = "3",
            .doc = "passes over the documents",
            .flags = {"--epochs"},
            .affects = kYes,
            .minimum = 0,
            .maximum = 1 << 20})
      .add({.name = "train.max_steps",
            .type = kInt,
            .default_value = "none",
            .doc = "stop after so many steps",
            .flags = {"--max-steps"},
            .affects = kYes,
            .none_allowed = true,
            .minimum = 0})
      .add({.name = "train.length_grouping",
            .type = kBool,
            .default_value = "true",
            .doc = "batches of documents of similar length",
            .affects = kYes})
      .add({.name = "train.reproducible",
            .type = kBool,
            .default_value = "false",
            .doc = "the same bytes on any number of ranks (CPU); slower",
            .flags = {"--reproducible"},
            .affects = kYes})
      .add({.name = "train.slots",
            .type = kInt,
            .default_value = "8",
            .doc = "parts of a batch that are summed in a fixed order, if reproducible",
            .affects = kYes,
            .minimum = 1,
            .maximum = 4096})
      .add({.name = "train.num_workers",
            .type = kInt,
            .default_value = "4",
            .doc = "threads that tokenize before the first step",
            .flags = {"--num-workers"},
            .minimum = 1,
            .maximum = 1024,
            .help = kCompact});
}

void add_optimizer(config::Schema& schema) {
  schema
      .add({.name = "train.lr",
            .type = kFloat,
            .default_value = "5e-5",
            .doc = "learning rate",
            .flags = {"--lr", "--learning-rate"},
            .affects = kYes,
            .minimum = 0})
      .add({.name = "train.scheduler",
            .default_value = "linear",
            .doc = "how the learning rate falls behind the warm-up",
            .flags = {"--scheduler"},
            .affects = kYes,
            .choices = {"linear", "cosine", "constant"}})
      .add({.name = "train.warmup",
            .type = kFloat,
            .default_value = "0.1",
            .doc = "of all steps; from 1 on a number of steps",
            .flags = {"--warmup"},
            .affects = kYes,
            .minimum = 0})
      .add({.name = "train.optimizer",
            .default_value = "adamw",
            .doc = "adamw: torch's; adamw_hf: transformers' former one",
            .affects = kYes,
            .choices = {"adamw", "adamw_hf"}})
      .add({.name = "train.weight_decay",
            .type = kFloat,
            .default_value = "0.01",
            .doc = "not of biases and norms",
            .flags = {"--weight-decay"},
            .affects = kYes,
            .minimum = 0})
      .add({.name = "train.beta1",
            .type = kFloat,
            .default_value = "0.9",
            .doc = "of the first moment",
            .affects = kYes,
            .minimum = 0,
            .maximum = 1})
      .add({.name = "train.beta2",
            .type = kFloat,
            .default_value = "0.999",
            .doc = "of the second moment",
            .affects = kYes,
            .minimum = 0,
            .maximum = 1})
      .add({.name = "train.epsilon",
            .type = kFloat,
            .default_value = "1e-8",
            .doc = "in the denominator",
            .affects = kYes,
            .minimum = 0})
      .add({.name = "train.clip_norm",
            .type = kFloat,
            .default_value = "1",
            .doc = "largest norm of the gradient; 0: any",
            .flags = {"--clip-norm"},
            .affects = kYes,
            .minimum = 0});
}

void add_loss(config::Schema& schema) {
  schema
      .add({.name = "train.reduction",
            .default_value = "mean",
            .doc = "of the loss over documents and classes",
            .affects = kYes,
            .choices = {"mean", "sum"}})
      .add({.name = "train.focal_gamma",
            .type = kFloat,
            .default_value = "0",
            .doc = "focal loss; 0: plain binary cross entropy",
            .affects = kYes,
            .minimum = 0})
      .add({.name = "train.positive_weight",
            .type = kFloat,
            .default_value = "1",
            .doc = "factor of a document's own classes",
            .affects = kYes,
            .minimum = 0})
      .add({.name = "train.positive_target",
            .type = kFloat,
            .default_value = "1",
            .doc = "their target; 0.9 smooths",
            .affects = kYes,
            .minimum = 0,
            .maximum = 1})
      .add({.name = "train.loss_scale",
            .type = kFloat,
            .default_value = "65536",
            .doc = "first loss scale of fp16",
            .affects = kYes,
            .minimum = 1})
      .add({.name = "train.loss_scale_interval",
            .type = kInt,
            .default_value = "2000",
            .doc = "good steps before it doubles",
            .affects = kYes,
            .minimum = 1})
      .add({.name = "train.log_every",
            .type = kInt,
            .default_value = "10",
            .doc = "steps between log lines",
            .minimum = 1})
      .add({.name = "run.checkpoint_interval",
            .type = kDuration,
            .default_value = "5m",
            .doc = "a checkpoint that often, and at the end of each epoch",
            .flags = {"--checkpoint-interval"}})
      .add({.name = "train.checkpoint_steps",
            .type = kInt,
            .default_value = "0",
            .doc = "a checkpoint every so many steps, too; 0: by time alone",
            .minimum = 0})
      .add({.name = "train.keep_checkpoints",
            .type = kInt,
            .default_value = "2",
            .doc = "the newest ones",
            .minimum = 1,
            .maximum = 1000})
      .add({.name = "output.losses",
            .type = kBool,
            .default_value = "false",
            .doc = "losses.csv: every step, unrounded",
            .flags = {"--losses"},
            .affects = kYes});
}

std::uint64_t unsigned_of(const config::Config& config, const std::string& key) {
  return static_cast<std::uint64_t>(config.integer(key));
}

taxonomy::DescendantMask descendants_of(const std::string& name) {
  if (name == "ignored") return taxonomy::DescendantMask::kPositivesProtected;
  if (name == "ignored_as_published") return taxonomy::DescendantMask::kAsPublished;
  return taxonomy::DescendantMask::kOff;
}

void read_model(const config::Config& config, TrainOptions& options) {
  auto& classifier = options.classifier;
  classifier.head = models::head_kind_from_name(config.string("train.head"));
  if (config.string("train.pooling") == "mean") classifier.pooling = models::Pooling::kMean;
  classifier.frozen_layers = static_cast<std::uint32_t>(config.integer("train.frozen_layers"));
  classifier.freeze_embeddings = config.boolean("train.freeze_embeddings");
  if (config.string("train.dropout") == "off") classifier.dropouts = models::Dropouts::kOff;
  if (config.boolean("train.gradient_checkpointing")) classifier.recompute = models::Recompute::kEveryLayer;
  classifier.seed = options.seed;
}

void read_optimizer(const config::Config& config, TrainOptions& options) {
  options.optimizer = {.kind = training::optimizer_kind_from_name(config.string("train.optimizer")),
                       .learning_rate = config.number("train.lr"),
                       .beta1 = config.number("train.beta1"),
                       .beta2 = config.number("train.beta2"),
                       .epsilon = config.number("train.epsilon"),
                       .weight_decay = config.number("train.weight_decay")};
  options.schedule.kind = training::schedule_kind_from_name(config.string("train.scheduler"));
  options.warmup = config.number("train.warmup");
  options.clip_norm = config.number("train.clip_norm");
  options.loss_scaler.enabled = options.compute_type == models::ComputeType::kFp16;
  options.loss_scaler.initial_scale = config.number("train.loss_scale");
  options.loss_scaler.growth_interval = unsigned_of(config, "train.loss_scale_interval");
}

}  // namespace

config::Schema train_schema() {
  config::Schema schema;
  add_labels(schema);
  add_model(schema);
  add_steps(schema);
  add_optimizer(schema);
  add_loss(schema);
  return schema;
}

TrainOptions read_train_options(const config::Config& config) {
  TrainOptions options;
  options.labels = config.string("train.labels");
  options.classes = config.string("taxonomy.classes");
  options.hierarchy = config.string("taxonomy.hierarchy");
  options.seed = unsigned_of(config, "run.seed");
  options.global_batch = config.is_auto("train.global_batch") ? unsigned_of(config, "train.batch_per_rank")
                                                              : unsigned_of(config, "train.global_batch");
  options.micro_batch_tokens = unsigned_of(config, "run.batch_tokens");
  options.epochs = unsigned_of(config, "train.epochs");
  options.max_steps = unsigned_of(config, "train.max_steps");
  options.grouping = config.boolean("train.length_grouping") ? Grouping::kByLength : Grouping::kNone;
  options.reproducible = config.boolean("train.reproducible") ? Reproducible::kYes : Reproducible::kNo;
  options.slots = static_cast<int>(config.integer("train.slots"));
  options.tokenizer_threads = static_cast<int>(config.integer("train.num_workers"));
  options.ancestors = config.boolean("train.ancestors") ? Ancestors::kAdded : Ancestors::kAsGiven;
  options.descendants = descendants_of(config.string("train.descendants"));
  options.target_values = {.positive = static_cast<float>(config.number("train.positive_target")),
                           .positive_weight = static_cast<float>(config.number("train.positive_weight")),
                           .negative_weight = 1};
  options.reduction = config.string("train.reduction") == "sum" ? nn::trainable::Reduction::kSum
                                                                : nn::trainable::Reduction::kMean;
  options.loss.focal_gamma = config.number("train.focal_gamma");
  options.validation = config.number("train.validation");
  options.patience = unsigned_of(config, "train.patience");
  options.best_by = config.string("train.best_by") == "loss" ? BestBy::kLoss : BestBy::kExampleF1;
  options.log_every = unsigned_of(config, "train.log_every");
  options.checkpoint_steps = unsigned_of(config, "train.checkpoint_steps");
  options.keep_checkpoints = static_cast<int>(config.integer("train.keep_checkpoints"));
  options.keep_losses = config.boolean("output.losses") ? KeepLosses::kYes : KeepLosses::kNo;
  options.compute_type = models::compute_type_from_name(config.string("run.dtype"));
  read_model(config, options);
  read_optimizer(config, options);
  if (options.patience > 0 && options.validation == 0)
    throw core::ConfigError(
        "train.patience waits for a better epoch, but train.validation is 0: hold documents out, say 0.1");
  if (options.compute_type == models::ComputeType::kInt8)
    throw core::ConfigError("run.dtype is int8, which only inference computes; train in bf16, fp16 or fp32");
  return options;
}

}  // namespace muster::phases
