// SPDX-License-Identifier: Apache-2.0
#include "app/commands.h"

#include <fmt/format.h>

#include <algorithm>

namespace muster::app {
namespace {

using config::HelpPlace;
using config::Key;
using config::KeyType;
using config::Schema;

std::vector<Command> make_commands() {
  return {
      {.name = "encode",
       .kind = CommandKind::kPhase,
       .usage = "[CONFIG.yaml] -m MODEL -i FILE... -o DIR [flags]",
       .summary = "documents -> embeddings.h5",
       .examples =
           {"muster encode -m models/all-mpnet-base-v2 -i docs.tsv -o out/encode",
            "mpirun -n 4 muster encode configs/encode/mpnet.yaml -i 'parts/*.jsonl.gz' --dtype fp32"}},
      {.name = "train",
       .kind = CommandKind::kPhase,
       .usage = "[CONFIG.yaml] -m MODEL -i FILE... --labels FILE --classes FILE -o DIR [flags]",
       .summary = "documents and labels -> a text classifier; captioned pictures -> a text-to-image model",
       .examples = {"muster train configs/train/classifier.yaml",
                    "mpirun -n 4 muster train configs/train/emoji.yaml --epochs 100"}},
      {.name = "infer",
       .kind = CommandKind::kPhase,
       .usage = "[CONFIG.yaml] -m MODEL -i FILE... -o DIR [flags]",
       .summary = "documents -> the labels of a text classifier: submission.csv, predictions.h5",
       .examples = {"muster infer -m out/train/model -i docs.tsv -o out/infer",
                    "mpirun -n 4 muster infer configs/infer/classifier.yaml --labels threshold --ancestors"}},
      {.name = "sample",
       .kind = CommandKind::kPhase,
       .usage = "[CONFIG.yaml] -m MODEL --prompts FILE|TEXT... -o DIR [flags]",
       .summary = "prompts -> pictures: images/*.png, images.h5, contact_sheet.png",
       .examples = {"muster sample -m models/sdxl --prompts prompts.csv -o out/images",
                    "mpirun -n 4 muster sample configs/sample/high-end.yaml --lora style.safetensors:0.8"}},
      {.name = "teleclass",
       .kind = CommandKind::kPhase,
       .usage = "[CONFIG.yaml] -m MODEL --data DIR -o DIR [flags]",
       .summary = "class names and documents without labels -> encode, pseudo-label, train, infer, score",
       .examples = {"muster teleclass configs/teleclass/debtags_small.yaml",
                    "mpirun -n 4 muster teleclass configs/teleclass/debtags.yaml --until labels"}},
      {.name = "run",
       .kind = CommandKind::kJob,
       .usage = "CONFIG.yaml [flags of its phase]",
       .summary = "the command named by `job:` in a config file",
       .examples = {"muster run configs/encode/mpnet.yaml -n 2",
                    "muster run job.yaml --set run.dtype=fp32 output.dir=out/b"}},
      {.name = "plan",
       .kind = CommandKind::kJob,
       .usage = "[CONFIG.yaml] [--job PHASE] [flags of its phase]",
       .summary = "what would run where, how long, how many GB; reads no weights, any number of ranks",
       .examples = {"muster plan configs/encode/mpnet.yaml --ranks 1024",
                    "muster plan --job encode -m models/all-mpnet-base-v2 -i docs.tsv -n 64"}},
      {.name = "verify",
       .kind = CommandKind::kTool,
       .usage = "DIR [--redo K]",
       .summary = "re-hash an output directory against its manifest",
       .examples = {"muster verify out/encode", "muster verify out/encode --redo 20"},
       .min_positional = 1},
      {.name = "search",
       .kind = CommandKind::kTool,
       .usage = "DIR \"query\" [--top K]",
       .summary = "the nearest documents of an embeddings.h5",
       .examples = {"muster search out/encode \"a text editor\"",
                    "muster search out/encode \"a web server\" --top 3"},
       .min_positional = 2,
       .max_positional = 2},
      {.name = "info",
       .kind = CommandKind::kTool,
       .usage = "[FOLDER] [--doctor]",
       .summary = "versions, devices, models in a folder",
       .examples = {"muster info models", "mpirun -n 1 muster info --doctor"}},
      {.name = "report",
       .kind = CommandKind::kTool,
       .usage = "DIR [DIR] [-o FILE]",
       .summary = "report.html of an output directory, finished or not, or of two compared",
       .examples = {"muster report out/encode", "muster report out/a out/b -o compared.html"},
       .min_positional = 1,
       .max_positional = 2},
  };
}

// A plan writes nothing, so what a job does with its output directory means nothing to it.
bool runs(const Command& command) {
  return command.kind != CommandKind::kTool && command.name != "plan";
}

void add_job_options(Schema& options, const Command& command) {
  options.add({.name = "set",
               .type = KeyType::kStringList,
               .default_value = "[]",
               .doc = "any key of the config file",
               .flags = {"--set"},
               .value_name = "KEY=VALUE..."});
  if (runs(command)) {
    options
        .add({.name = "dry_run",
              .type = KeyType::kBool,
              .default_value = "false",
              .doc = "check everything, print the plan, stop",
              .flags = {"--dry-run"}})
        .add({.name = "fresh",
              .type = KeyType::kBool,
              .default_value = "false",
              .doc = "forget earlier results in the output directory",
              .flags = {"--fresh"}})
        .add({.name = "retry_failed",
              .type = KeyType::kBool,
              .default_value = "false",
              .doc = "do only the items of failures.jsonl",
              .flags = {"--retry-failed"}})
        .add({.name = "keep_segments",
              .type = KeyType::kBool,
              .default_value = "false",
              .doc = "keep .run/ after a finished job",
              .flags = {"--keep-segments"},
              .help = HelpPlace::kCompact});
  }
  if (command.kind == CommandKind::kJob) {
    options.add({.name = "job",
                 .doc = "the phase, when no config file names it",
                 .flags = {"--job"},
                 .value_name = "PHASE"});
  }
}

void add_general_options(Schema& options) {
  options
      .add({.name = "log_level",
            .default_value = "info",
            .doc = "messages on the terminal",
            .flags = {"--log-level"},
            .choices = {"debug", "info", "warning", "error"},
            .help = HelpPlace::kCompact})
      .add({.name = "help",
            .type = KeyType::kBool,
            .default_value = "false",
            .doc = "this page",
            .flags = {"-h", "--help"},
            .help = HelpPlace::kCompact})
      .add({.name = "version",
            .type = KeyType::kBool,
            .default_value = "false",
            .doc = "versions",
            .flags = {"--version"},
            .help = HelpPlace::kCompact});
}

}  // namespace

const std::vector<Command>& commands() {
  // Leaked on purpose: a table that other threads may still read at exit needs no destructor.
  static const auto* table = new std::vector<Command>(make_commands());
  return *table;
}

const Command* find_command(const std::string& name) {
  const auto found =
      std::find_if(commands().begin(), commands().end(), [&](const Command& c) { return c.name == name; });
  return found == commands().end() ? nullptr : &*found;
}

std::span<const std::string> announced_commands() {
  static const auto* names = new std::vector<std::string>{"generate", "distill", "bench", "submit"};
  return *names;
}

Schema options_of(const Command& command) {
  Schema options;
  if (command.kind != CommandKind::kTool) add_job_options(options, command);
  if (command.name == "verify") {
    options.add({.name = "redo",
                 .type = KeyType::kInt,
                 .default_value = "0",
                 .doc = "recompute K random items and compare",
                 .flags = {"--redo"},
                 .minimum = 0,
                 .maximum = 1 << 30,
                 .value_name = "K"});
  } else if (command.name == "search") {
    options.add({.name = "top",
                 .type = KeyType::kInt,
                 .default_value = "10",
                 .doc = "how many documents to show",
                 .flags = {"--top"},
                 .minimum = 1,
                 .maximum = 1 << 30,
                 .value_name = "K"});
  } else if (command.name == "report") {
    options.add({.name = "output",
                 .doc = "where to write it [DIR/report.html; for two: report.html here]",
                 .flags = {"-o", "--output"},
                 .value_name = "FILE"});
  } else if (command.name == "info") {
    options.add({.name = "doctor",
                 .type = KeyType::kBool,
                 .default_value = "false",
                 .doc = "check launcher, cores, disk and GPUs; a remedy a line",
                 .flags = {"--doctor"}});
  }
  add_general_options(options);
  return options;
}

std::string overview_page() {
  std::string page =
      "usage: muster <command> [CONFIG.yaml] [-m MODEL] [-i FILE...] [-o DIR] [-n RANKS] [flags]\n\n"
      "Batch work over MPI ranks and GPUs, exact on any number of ranks; a rerun resumes.\n\n";
  for (const auto& command : commands()) page += fmt::format("  {:<10} {}\n", command.name, command.summary);
  page +=
      "\nmuster <command> --help lists its flags; muster --version the versions of what it uses.\n"
      "A flag beats --set key=value, which beats the config file, which beats the built-in default.\n"
      "Without mpirun or srun, muster starts mpirun itself: one rank a GPU, or -n N.\n\n"
      "Exit codes: 0 done, 1 internal error, 2 usage or config, 3 input or model, 4 done but some items\n"
      "failed, 5 resume does not match, 6 out of resources, 7 output directory locked, full or not\n"
      "writable, 75 stopped with everything saved (run it again), 128+n ended by signal n.\n\n"
      "Examples:\n";
  for (const auto& command : commands()) page += fmt::format("  {}\n", command.examples.front());
  return page;
}

std::string command_page(const Command& command, const Schema* phase) {
  Schema all;
  if (phase != nullptr) all.add(*phase);
  if (phase != nullptr && !runs(command)) all.make_optional("output.dir");
  // The names only have to differ from those of the phase's keys; the page shows flags.
  const Schema options = options_of(command);
  for (Key option : options.keys()) {
    option.name = "option " + option.name;
    all.add(std::move(option));
  }
  return config::help_page(command.name + ' ' + command.usage, command.summary, all, command.examples);
}

}  // namespace muster::app
