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

void add_batches(config::Schema& schema) {
  schema
      .add({.name = "train.length_grouping",
            .type = kBool,
            .default_value = "true",
            .doc = "batches of documents of similar length",
            .affects = kYes})
      .add({.name = "train.num_workers",
            .type = kInt,
            .default_value = "4",
            .doc = "threads that tokenize before the first step",
            .flags = {"--num-workers"},
            .minimum = 1,
            .maximum = 1024,
            .help = kCompact});
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
            .maximum = 1});
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

}  // namespace

config::Schema train_schema() {
  config::Schema schema;
  add_labels(schema);
  add_model(schema);
  schema.add(step_schema("documents"));
  add_batches(schema);
  add_loss(schema);
  return schema;
}

TrainOptions read_train_options(const config::Config& config) {
  TrainOptions options;
  read_step_options(config, options);
  options.labels = config.string("train.labels");
  options.classes = config.string("taxonomy.classes");
  options.hierarchy = config.string("taxonomy.hierarchy");
  options.micro_batch_tokens = unsigned_of(config, "run.batch_tokens");
  options.grouping = config.boolean("train.length_grouping") ? Grouping::kByLength : Grouping::kNone;
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
  read_model(config, options);
  if (options.patience > 0 && options.validation == 0)
    throw core::ConfigError(
        "train.patience waits for a better epoch, but train.validation is 0: hold documents out, say 0.1");
  return options;
}

}  // namespace muster::phases
