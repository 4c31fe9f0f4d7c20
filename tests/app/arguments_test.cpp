// SPDX-License-Identifier: Apache-2.0
#include "app/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "app/commands.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"

namespace muster::app {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Words = std::vector<std::string>;

const config::Schema& toy_schema() {
  static const auto* schema = [] {
    auto* made = new config::Schema(config::common_schema());
    made->add({.name = "model.pooling",
               .default_value = "auto",
               .flags = {"--pooling"},
               .choices = {"auto", "mean", "cls"}});
    return made;
  }();
  return *schema;
}

/// The phases of the program, and a phase that the table of commands does not know.
const config::Schema* find_phase(const std::string& name, const std::string&) {
  const Command* command = find_command(name);
  const bool is_phase = command != nullptr && command->kind == CommandKind::kPhase;
  return is_phase || name == "toy" ? &toy_schema() : nullptr;
}

Arguments parse(const Words& words) {
  return parse_arguments(words, find_phase);
}

std::string error_of(const Words& words) {
  try {
    parse(words);
    return "";
  } catch (const core::ConfigError& error) {
    return error.what();
  }
}

config::Config config_of(const Words& words) {
  const Arguments arguments = parse(words);
  return config::load_config(*find_phase(arguments.job, arguments.variant), arguments.sources);
}

class ScratchYaml {
 public:
  explicit ScratchYaml(const std::string& content) {
    static int count = 0;
    path_ = ::testing::TempDir() + "muster_arguments_" + std::to_string(::getpid()) + '_' +
            std::to_string(count++) + ".yaml";
    std::ofstream(path_) << content;
  }
  ~ScratchYaml() { std::filesystem::remove(path_); }
  ScratchYaml(const ScratchYaml&) = delete;
  ScratchYaml& operator=(const ScratchYaml&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

const Words kEncode = {"encode", "-m", "M", "-i", "a.tsv", "-o", "out"};

Words encode_with(const Words& more) {
  Words words = kEncode;
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST(Arguments, TheReferenceLine) {
  const auto config =
      config_of({"encode", "-m", "models/x", "-i", "docs.tsv", "-o", "out/encode", "-n", "2"});
  EXPECT_EQ(config.string("job"), "encode");
  EXPECT_EQ(config.string("model.path"), "models/x");
  EXPECT_THAT(config.strings("input.path"), ElementsAre("docs.tsv"));
  EXPECT_EQ(config.string("output.dir"), "out/encode");
  EXPECT_EQ(config.integer("run.ranks"), 2);
}

TEST(Arguments, DashesAndUnderscoresAndLegacyNames) {
  struct Row {
    Words words;
    const char* key;
    const char* value;
  };
  const Row rows[] = {
      {{"--batch-tokens", "4096"}, "run.batch_tokens", "4096"},
      {{"--batch_tokens", "4096"}, "run.batch_tokens", "4096"},
      {{"--batch_tokens=4096"}, "run.batch_tokens", "4096"},
      {{"--max-workers", "3"}, "run.ranks", "3"},
      {{"--max_workers=3"}, "run.ranks", "3"},
      {{"--ranks", "3"}, "run.ranks", "3"},
      {{"-n3"}, "run.ranks", "3"},
      {{"--strict"}, "run.strict", "true"},
      {{"--strict=false"}, "run.strict", "false"},
      {{"--on_truncate", "fail"}, "run.on_truncate", "fail"},
      {{"--max_failures", "2%"}, "run.max_failures", "2%"},
      {{"--limit", "10"}, "run.limit", "10"},
      {{"--pooling", "cls"}, "model.pooling", "cls"},
      {{"--output_dir=a_b"}, "output.dir", "a_b"},
      {{"--model=my_model"}, "model.path", "my_model"},
      {{"--seed", "1", "--seed", "2"}, "run.seed", "2"},
      {{"--set", "run.seed=5"}, "run.seed", "5"},
      {{"--set", "run.seed=5", "--seed", "6"}, "run.seed", "6"},
  };
  for (const auto& row : rows) {
    const auto config = config_of(encode_with(row.words));
    EXPECT_EQ(config.string(row.key), row.value) << core::join(row.words, " ");
  }
}

TEST(Arguments, ListsTakeSeveralValues) {
  EXPECT_THAT(config_of({"encode", "-m", "M", "-o", "o", "-i", "a.tsv", "b.tsv", "-i", "c.tsv"})
                  .strings("input.path"),
              ElementsAre("a.tsv", "b.tsv", "c.tsv"));
  EXPECT_THAT(config_of(encode_with({"--gpu-ids", "0", "2"})).integers("run.gpu_ids"), ElementsAre(0, 2));
  EXPECT_THAT(config_of(encode_with({"--gpu-ids", "0,2"})).integers("run.gpu_ids"), ElementsAre(0, 2));
  const auto sets = parse(encode_with({"--set", "a=1", "b=x=y", "--set", "c="})).sources.sets;
  EXPECT_THAT(sets, ElementsAre(std::pair<std::string, std::string>{"a", "1"},
                                std::pair<std::string, std::string>{"b", "x=y"},
                                std::pair<std::string, std::string>{"c", ""}));
}

TEST(Arguments, TheConfigFileIsFoundAnywhere) {
  const ScratchYaml yaml("job: encode\nmodel: {path: M}\noutput: {dir: o}\n");
  const Words rows[] = {
      {"encode", yaml.path(), "-i", "a.tsv"},
      {"encode", "-i", "a.tsv", "--", yaml.path()},
      {"encode", "-i", "a.tsv", yaml.path()},
      {"encode", "--limit", "3", yaml.path(), "-i", "a.tsv"},
      {"encode", "-i", "a.tsv", "--set", "run.seed=1", yaml.path()},
  };
  for (const auto& row : rows) {
    const Arguments arguments = parse(row);
    EXPECT_EQ(arguments.config_path, yaml.path()) << core::join(row, " ");
    EXPECT_EQ(arguments.sources.yaml_path, yaml.path());
    EXPECT_THAT(config_of(row).strings("input.path"), ElementsAre("a.tsv"));
  }
}

TEST(Arguments, OptionsOfAPhase) {
  const Arguments none = parse(kEncode);
  EXPECT_FALSE(none.dry_run || none.fresh || none.retry_failed || none.keep_segments);
  EXPECT_EQ(none.log_level, "info");
  EXPECT_EQ(none.show, Show::kNothing);
  const Arguments all =
      parse(encode_with({"--dry_run", "--fresh", "--keep-segments", "--log-level", "debug"}));
  EXPECT_TRUE(all.dry_run && all.fresh && all.keep_segments);
  EXPECT_EQ(all.log_level, "debug");
  EXPECT_TRUE(parse(encode_with({"--retry-failed"})).retry_failed);
  EXPECT_THAT(error_of(encode_with({"--retry-failed", "--fresh"})), HasSubstr("not both"));
  EXPECT_THAT(error_of(encode_with({"--log-level", "loud"})),
              HasSubstr("allowed: debug, info, warning, error"));
}

TEST(Arguments, TheJobOfRunAndPlan) {
  const ScratchYaml encode("job: encode\nmodel: {path: M}\n"), none("model: {path: M}\n"),
      train("job: generate\n"), broken("job: [\n");
  struct Row {
    Words words;
    const char* job;
    const char* error;
  };
  const Row rows[] = {
      {{"run", encode.path()}, "encode", ""},
      {{"run", encode.path(), "--pooling", "mean"}, "encode", ""},
      {{"run", "--pooling", "mean", encode.path()}, "encode", ""},
      {{"plan", encode.path(), "--ranks", "1024"}, "encode", ""},
      {{"plan", "--job", "toy", "-m", "M"}, "toy", ""},
      {{"run", encode.path(), "--set", "job=toy"}, "toy", ""},
      {{"run", encode.path(), "--set", "job=generate", "--job", "toy"}, "toy", ""},
      {{"run"}, "", "which phase?"},
      {{"plan", "-m", "M"}, "", "which phase?"},
      {{"run", none.path()}, "", "has no `job:`"},
      {{"run", train.path()}, "", "'generate' is not in this version"},
      {{"run", broken.path()}, "", "is not valid YAML"},
      {{"run", "/nonexistent.yaml"}, "", "No such file"},
      {{"run", "--job", "encod"}, "", "did you mean 'encode'?"},
  };
  for (const auto& row : rows) {
    const std::string line = core::join(row.words, " ");
    if (*row.error != '\0') {
      EXPECT_THAT(error_of(row.words), HasSubstr(row.error)) << line;
      continue;
    }
    const Arguments arguments = parse(row.words);
    EXPECT_EQ(arguments.job, row.job) << line;
    EXPECT_EQ(arguments.command, row.words.front());
    EXPECT_THAT(arguments.sources.flags.front(), (std::pair<std::string, Words>{"job", {row.job}}));
  }
}

TEST(Arguments, AConfigForAnotherPhaseIsRefused) {
  const ScratchYaml sample("job: generate\n"), broken("job: [\n");
  EXPECT_THAT(error_of({"encode", sample.path()}),
              HasSubstr("says 'job: generate', but the command is encode"));
  EXPECT_THAT(error_of(encode_with({"--set", "job=toy"})), HasSubstr("--set says 'job: toy'"));
  EXPECT_EQ(parse({"encode", broken.path()}).config_path, broken.path())
      << "load_config tells what is wrong with it";
}

TEST(Arguments, ToolsTakeTheirWords) {
  const Arguments verify = parse({"verify", "out", "--redo", "5"});
  EXPECT_THAT(verify.positional, ElementsAre("out"));
  EXPECT_EQ(verify.redo, 5);
  EXPECT_EQ(verify.job, "");
  const Arguments search = parse({"search", "out", "a text editor", "--top=3"});
  EXPECT_THAT(search.positional, ElementsAre("out", "a text editor"));
  EXPECT_EQ(search.top, 3);
  EXPECT_THAT(parse({"search", "out", "--", "--help_me"}).positional, ElementsAre("out", "--help_me"));
  EXPECT_THAT(parse({"info"}).positional, IsEmpty());
  EXPECT_TRUE(parse({"info", "models", "--doctor"}).doctor);
}

TEST(Arguments, ReportTakesOneOrTwoDirectories) {
  const Arguments one = parse({"report", "out"});
  EXPECT_THAT(one.positional, ElementsAre("out"));
  EXPECT_EQ(one.output, "");
  const Arguments two = parse({"report", "out/a", "-o", "both.html", "out/b"});
  EXPECT_THAT(two.positional, ElementsAre("out/a", "out/b"));
  EXPECT_EQ(two.output, "both.html");
  EXPECT_THAT(error_of({"report"}), HasSubstr("usage: muster report DIR [DIR] [-o FILE]"));
  EXPECT_THAT(error_of({"report", "a", "b", "c"}), HasSubstr("usage: muster report"));
}

TEST(Arguments, MistakesAreNamedWithTheNearestWord) {
  struct Row {
    Words words;
    std::vector<const char*> parts;
  };
  const Row rows[] = {
      {{}, {"no command given", "usage: muster <command>"}},
      {{"encoed"}, {"unknown command 'encoed'; did you mean 'encode'?"}},
      {{"xyzzyxyzzy"},
       {"unknown command 'xyzzyxyzzy'; commands are encode, train, infer, sample, teleclass, run, plan, "
        "verify, "
        "search, info"}},
      {{"generate"}, {"'generate' is not in this version"}},
      {{"submit", "--help"}, {"'submit' is not in this version"}},
      {{"-m", "M", "encode"}, {"the command comes before its flags"}},
      {encode_with({"--batch-tokns", "4096"}),
       {"unknown flag '--batch-tokns'; did you mean '--batch-tokens'?", "`muster encode --help`"}},
      {encode_with({"--batch_tokns=4096"}), {"unknown flag '--batch-tokns'; did you mean '--batch-tokens'?"}},
      {encode_with({"--dry-rn", "--frsh"}), {"did you mean '--dry-run'?", "did you mean '--fresh'?"}},
      {encode_with({"-x", "3"}), {"unknown flag '-x'"}},
      {encode_with({"--top", "3"}), {"unknown flag '--top'"}},
      {encode_with({"--set", "run.seed"}), {"--set takes key=value, not 'run.seed'"}},
      {encode_with({"--set", "=3"}), {"--set takes key=value, not '=3'"}},
      {encode_with({"--limit"}), {"muster encode: --limit needs a value"}},
      {{"encode", "-i", "-m", "M"}, {"muster encode: --input needs a value"}},
      {{"encode", "-m", "--input", "a.tsv"}, {"muster encode: --model needs a value"}},
      {encode_with({"--gpu-ids"}), {"muster encode: --gpu-ids needs a value"}},
      {encode_with({"--set", "--dry_run"}), {"muster encode: --set needs a value"}},
      {{"encode", "docs.tsv"}, {"'docs.tsv' is no config file (.yaml); inputs are given with -i"}},
      {{"encode", "/nonexistent/a.yaml", "/nonexistent/b.yaml"}, {"one config file is taken, not 2"}},
      {{"verify"}, {"usage: muster verify DIR [--redo K]"}},
      {{"verify", "a", "b"}, {"usage: muster verify DIR [--redo K]"}},
      {{"verify", "a", "--redo", "x"}, {"--redo: 'redo' is 'x'; expected an integer from 0"}},
      {{"verify", "a", "--rdeo", "3"}, {"unknown flag '--rdeo'; did you mean '--redo'?"}},
      {{"search", "a"}, {"usage: muster search DIR \"query\" [--top K]"}},
      {{"search", "a", "b", "--top", "0"}, {"--top: 'top' is '0'; expected an integer from 1"}},
      {{"info", "--ranks", "3"}, {"unknown flag '--ranks'"}},
  };
  for (const auto& row : rows) {
    const std::string message = error_of(row.words);
    for (const char* part : row.parts) EXPECT_THAT(message, HasSubstr(part)) << core::join(row.words, " ");
  }
}

TEST(Arguments, UnknownFlagsAreAllNamedAndTheirValuesAreNot) {
  const std::string message = error_of({"encode", "--mdoel", "M", "--inptu", "a.tsv", "--set", "oops"});
  EXPECT_EQ(message,
            "unknown flag '--mdoel'; did you mean '--model'?\n"
            "unknown flag '--inptu'; did you mean '--input'?\n"
            "--set takes key=value, not 'oops'; e.g. --set run.seed=7\n"
            "`muster encode --help` lists what can be given");
}

TEST(Arguments, NumbersAreValidatedWithTheFlagsName) {
  struct Row {
    Words words;
    const char* message;
  };
  const Row rows[] = {
      {{"--limit", "ten"}, "--limit: 'run.limit' is 'ten'; expected an integer, at least 0, or none"},
      {{"--limit", "-3"}, "--limit: 'run.limit' is '-3'; expected an integer, at least 0, or none"},
      {{"-n", "0"}, "--ranks: 'run.ranks' is '0'; expected an integer from 1 to 1048576, or auto"},
      {{"--max-failures", "200%"},
       "--max-failures: 'run.max_failures' is '200%'; expected a number of items such as 10, or a share such "
       "as 2%"},
      {{"--on-truncate", "wran"},
       "--on-truncate: 'run.on_truncate' is 'wran'; allowed: warn, fail; did you mean 'warn'?"},
      {{"--strict=maybe"}, "--strict: 'run.strict' is 'maybe'; expected true or false"},
  };
  for (const auto& row : rows) {
    try {
      config_of(encode_with(row.words));
      ADD_FAILURE() << row.message;
    } catch (const core::ConfigError& error) {
      EXPECT_STREQ(error.what(), row.message);
    }
  }
}

TEST(Arguments, APhaseThatTheTableDoesNotKnowRunsToo) {
  const Arguments toy = parse({"toy", "-m", "M", "--pooling", "cls"});
  EXPECT_EQ(toy.command, "toy");
  EXPECT_EQ(toy.job, "toy");
  EXPECT_THAT(parse({"toy", "--help"}).help, HasSubstr("--pooling auto|mean|cls"));
}

TEST(HelpPage, EveryCommandFitsAScreenAndEndsWithExamples) {
  std::vector<std::string> pages = {parse({"--help"}).help};
  for (const auto& command : commands()) {
    for (const char* flag : {"--help", "-h"}) {
      const Arguments shown = parse({command.name, flag, "--bogus"});
      EXPECT_EQ(shown.show, Show::kHelp);
      EXPECT_TRUE(shown.help.starts_with("usage: muster " + command.name + ' '));
      EXPECT_TRUE(shown.help.ends_with(command.examples.back() + '\n'));
      pages.push_back(shown.help);
    }
  }
  for (const auto& page : pages) {
    const auto lines = core::split(page, '\n');
    EXPECT_LE(lines.size(), 41u) << page;
    for (const auto& line : lines) EXPECT_LE(line.size(), 100u) << line;
    EXPECT_THAT(page, HasSubstr("Examples:\n  m"));
    EXPECT_EQ(page.find("...\n"), std::string::npos) << "a line is cut:\n" << page;
  }
}

TEST(HelpPage, NamesTheOptionsThatAreNoKeys) {
  const std::string page = parse({"encode", "--help"}).help;
  for (const char* flag :
       {"--set", "--dry-run", "--fresh", "--retry-failed", "--keep-segments", "--log-level", "--limit",
        "--strict", "--max-failures", "--on-truncate", "--pooling", "--help", "--version", "-n, --ranks"}) {
    EXPECT_THAT(page, HasSubstr(flag));
  }
  EXPECT_THAT(parse({"plan", "--help"}).help, HasSubstr("--job PHASE"));
  EXPECT_THAT(page, Not(HasSubstr("--job")));
}

TEST(HelpPage, VersionIsAskedForAnywhere) {
  EXPECT_EQ(parse({"--version"}).show, Show::kVersion);
  EXPECT_EQ(parse({"encode", "--version"}).show, Show::kVersion);
  EXPECT_EQ(parse({"search", "d", "--", "--version"}).show, Show::kNothing) << "a query";
}

}  // namespace
}  // namespace muster::app
