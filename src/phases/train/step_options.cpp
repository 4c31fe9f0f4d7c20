// SPDX-License-Identifier: Apache-2.0
#include "phases/train/step_options.h"

#include "muster/core/error.h"

namespace muster::phases {
namespace {

using enum config::KeyType;
constexpr auto kYes = config::AffectsResults::kYes;

void add_steps(config::Schema& schema, const std::string& items) {
  schema
      .add({.name = "train.batch_per_rank",
            .type = kInt,
            .default_value = "16",
            .doc = items + " of a step on each rank",
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
            .doc = items + " of a step; auto: batch_per_rank x ranks",
            .flags = {"--global-batch"},
            .affects = kYes,
            .auto_allowed = true,
            .minimum = 1,
            .maximum = 1 << 24})
      .add({.name = "train.epochs",
            .type = kInt,
            .default_value = "3",
            .doc = "passes over the " + items,
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
            .maximum = 4096});
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

void add_record(config::Schema& schema) {
  schema
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

void read_optimizer(const config::Config& config, StepOptions& options) {
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

config::Schema step_schema(const std::string& items) {
  config::Schema schema;
  add_steps(schema, items);
  add_optimizer(schema);
  add_record(schema);
  return schema;
}

void read_step_options(const config::Config& config, StepOptions& options) {
  options.seed = unsigned_of(config, "run.seed");
  options.global_batch = config.is_auto("train.global_batch") ? unsigned_of(config, "train.batch_per_rank")
                                                              : unsigned_of(config, "train.global_batch");
  options.epochs = unsigned_of(config, "train.epochs");
  options.max_steps = unsigned_of(config, "train.max_steps");
  options.reproducible = config.boolean("train.reproducible") ? Reproducible::kYes : Reproducible::kNo;
  options.slots = static_cast<int>(config.integer("train.slots"));
  options.log_every = unsigned_of(config, "train.log_every");
  options.checkpoint_steps = unsigned_of(config, "train.checkpoint_steps");
  options.keep_checkpoints = static_cast<int>(config.integer("train.keep_checkpoints"));
  options.keep_losses = config.boolean("output.losses") ? KeepLosses::kYes : KeepLosses::kNo;
  options.compute_type = models::compute_type_from_name(config.string("run.dtype"));
  options.backend = config.string("run.backend");
  options.nccl_timeout = config.duration("run.nccl_timeout");
  read_optimizer(config, options);
  if (options.compute_type == models::ComputeType::kInt8)
    throw core::ConfigError("run.dtype is int8, which only inference computes; train in bf16, fp16 or fp32");
}

std::map<std::string, std::string> decide_global_batch(const config::Config& config, int ranks) {
  if (!config.is_auto("train.global_batch")) return {};
  const std::int64_t batch =
      config.integer("train.batch_per_rank") * ranks * config.integer("train.accumulation");
  return {{"train.global_batch", std::to_string(batch)}};
}

}  // namespace muster::phases
