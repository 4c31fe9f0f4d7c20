// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>

#include "muster/config/schema.h"
#include "muster/core/error.h"
#include "value.h"

namespace muster::config {
namespace {

using enum KeyType;
constexpr auto kYes = AffectsResults::kYes;
constexpr auto kCompact = HelpPlace::kCompact;

struct FailureLimit {
  double number = 0;
  bool percent = false;
};

std::optional<FailureLimit> parse_failure_limit(std::string_view text) {
  const bool percent = text.ends_with('%');
  if (percent) text.remove_suffix(1);
  const auto number = percent ? parse_float(text) : [&]() -> std::optional<double> {
    const auto count = parse_int(text);
    return count ? std::optional<double>(static_cast<double>(*count)) : std::nullopt;
  }();
  if (!number || *number < 0 || (percent && *number > 100)) return std::nullopt;
  return FailureLimit{*number, percent};
}

std::string check_failure_limit(const std::string& text) {
  return parse_failure_limit(text) ? "" : "a number of items such as 10, or a share such as 2%";
}

// Digests of model and input are compared on resume, so their paths do not belong to the identity; how the
// input is read does.
void add_model_input_output(Schema& schema) {
  schema.add({.name = "job", .doc = "the phase that `muster run` starts", .value_name = "PHASE"})
      .add({.name = "model.path",
            .doc = "a folder, or org/name in the Hugging Face cache",
            .flags = {"-m", "--model"},
            .required = true,
            .value_name = "MODEL"})
      .add({.name = "input.path",
            .type = kStringList,
            .doc = "input files, a list or a glob; .gz too",
            .flags = {"-i", "--input"},
            .required = true,
            .value_name = "FILE..."})
      .add({.name = "output.dir",
            .doc = "output directory; the same command resumes",
            .flags = {"-o", "--output", "--output-dir"},
            .required = true,
            .value_name = "DIR"})
      .add({.name = "input.format",
            .default_value = "auto",
            .doc = "tsv, csv, jsonl, txt, hdf5; auto goes by file name",
            .flags = {"--input-format"},
            .affects = kYes,
            .choices = {"auto", "tsv", "csv", "jsonl", "txt", "hdf5"},
            .value_name = "FORMAT"})
      .add({.name = "input.id",
            .default_value = "id",
            .doc = "name of the id column",
            .flags = {"--id-column"},
            .affects = kYes,
            .value_name = "NAME",
            .help = kCompact})
      .add({.name = "input.text",
            .default_value = "text",
            .doc = "name of the text column",
            .flags = {"--text-column"},
            .affects = kYes,
            .value_name = "NAME",
            .help = kCompact})
      .add({.name = "input.id_prefix",
            .type = kStringList,
            .default_value = "[]",
            .doc = "one for each path, put before its ids: files may count from 0 each"});
}

void add_compute(Schema& schema) {
  schema
      .add({.name = "run.ranks",
            .type = kInt,
            .default_value = "auto",
            .doc = "ranks to start without mpirun; auto: one a GPU, or one",
            .flags = {"-n", "--ranks", "--max-workers"},
            .auto_allowed = true,
            .minimum = 1,
            .maximum = 1 << 20})
      .add({.name = "run.device",
            .default_value = "auto",
            .doc = "where to compute",
            .flags = {"--device"},
            .affects = kYes,
            .choices = {"auto", "cpu", "cuda"}})
      .add({.name = "run.gpu_ids",
            .type = kIntList,
            .default_value = "[]",
            .doc = "use these GPUs only; [] uses all",
            .flags = {"--gpu-ids"},
            .minimum = 0,
            .value_name = "N...",
            .help = kCompact})
      .add({.name = "run.dtype",
            .default_value = "auto",
            .doc = "auto: bf16 if the hardware has it, else fp32, GPU fp16",
            .flags = {"--dtype"},
            .affects = kYes,
            .choices = {"auto", "fp32", "bf16", "fp16", "int8"}})
      .add({.name = "run.schedule",
            .default_value = "balanced",
            .doc = "how items are dealt: by cost, in order, on demand",
            .flags = {"--schedule"},
            .choices = {"balanced", "ceil", "dynamic"}})
      .add({.name = "run.batch_tokens",
            .type = kInt,
            .default_value = "auto",
            .doc = "token budget of a micro-batch",
            .flags = {"--batch-tokens"},
            .auto_allowed = true,
            .minimum = 1,
            .maximum = 1 << 30})
      .add({.name = "run.batch_size",
            .type = kInt,
            .default_value = "0",
            .doc = "a fixed number of items per micro-batch; 0: by tokens",
            .flags = {"--batch-size"},
            .minimum = 0,
            .maximum = 1 << 20})
      .add({.name = "run.workers",
            .type = kInt,
            .default_value = "auto",
            .doc = "worker threads a rank on a CPU; auto: one a core",
            .flags = {"--workers"},
            .auto_allowed = true,
            .minimum = 1,
            .maximum = 4096})
      .add({.name = "run.window_items",
            .type = kInt,
            .default_value = "65536",
            .doc = "items planned at a time; memory grows with it",
            .minimum = 1,
            .maximum = 1 << 30})
      .add({.name = "run.seed",
            .type = kInt,
            .default_value = "42",
            .doc = "seed of all random numbers",
            .flags = {"--seed"},
            .affects = kYes,
            .minimum = 0,
            .help = kCompact})
      .add({.name = "run.backend",
            .default_value = "auto",
            .doc = "what carries collectives",
            .flags = {"--backend"},
            .choices = {"auto", "mpi", "nccl"},
            .help = kCompact});
}

void add_trouble(Schema& schema) {
  schema
      .add({.name = "run.limit",
            .type = kInt,
            .default_value = "none",
            .doc = "take the first N items only",
            .flags = {"--limit"},
            .affects = kYes,
            .none_allowed = true,
            .minimum = 0})
      .add({.name = "run.strict",
            .type = kBool,
            .default_value = "false",
            .doc = "refuse an input with bad rows before any work",
            .flags = {"--strict"}})
      .add({.name = "run.on_truncate",
            .default_value = "warn",
            .doc = "what a text longer than the model takes does",
            .flags = {"--on-truncate"},
            .affects = kYes,
            .choices = {"warn", "fail"}})
      .add({.name = "run.max_failures",
            .default_value = "0",
            .doc = "as many failed items still exit with 0",
            .flags = {"--max-failures"},
            .check = check_failure_limit,
            .value_name = "N|P%"})
      .add({.name = "run.max_time",
            .type = kDuration,
            .default_value = "none",
            .doc = "stop cleanly after this time, saved (exit 75)",
            .flags = {"--max-time"}})
      .add({.name = "run.hang_timeout",
            .type = kDuration,
            .default_value = "15m",
            .doc = "a batch or collective that takes longer ends the job",
            .flags = {"--hang-timeout"},
            .minimum = 1e-3,
            .help = kCompact})
      .add({.name = "run.nccl_timeout",
            .type = kDuration,
            .default_value = "1h",
            .doc = "the same for NCCL",
            .flags = {"--nccl-timeout"},
            .minimum = 1e-3,
            .help = kCompact})
      .add({.name = "run.commit_interval",
            .type = kDuration,
            .default_value = "1s",
            .doc = "finished items are made durable this often"});
}

}  // namespace

std::uint64_t failures_allowed(const std::string& text, std::uint64_t items) {
  const auto limit = parse_failure_limit(text);
  if (!limit) throw core::ConfigError(fmt::format("'{}' is not {}", text, check_failure_limit(text)));
  const double allowed =
      limit->percent ? std::floor(static_cast<double>(items) * limit->number / 100) : limit->number;
  return static_cast<std::uint64_t>(allowed);
}

Schema common_schema() {
  Schema schema;
  add_model_input_output(schema);
  add_compute(schema);
  add_trouble(schema);
  return schema;
}

}  // namespace muster::config
