// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>

#include "support.h"

namespace muster::config {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Row {
  const char* yaml;
  const char* message;  ///< the whole of it
};

TEST(ConfigErrors, UnknownKeysNameTheLineAndTheNearestKey) {
  const Row rows[] = {
      {"run:\n  batch_tokns: 9\n", "FILE:2: unknown key 'run.batch_tokns'; did you mean 'run.batch_tokens'?"},
      {"run:\n  seed: 1\n\n  # x\n  hang_timout: 9s\n",
       "FILE:5: unknown key 'run.hang_timout'; did you mean 'run.hang_timeout'?"},
      {"run: {dtpye: bf16}", "FILE:1: unknown key 'run.dtpye'; did you mean 'run.dtype'?"},
      {"batch_size: 4\n", "FILE:1: unknown key 'batch_size'; did you mean 'run.batch_size'?"},
      {"input: {seed: 4}\n", "FILE:1: unknown key 'input.seed'; did you mean 'run.seed'?"},
      {"rnu: {seed: 4}\n", "FILE:1: unknown key 'rnu'; did you mean 'run'?"},
      {"modle: {path: a}\n", "FILE:1: unknown key 'modle'; did you mean 'model'?"},
      {"run:\n  batch-size: 4\n", "FILE:2: unknown key 'run.batch-size'; did you mean 'run.batch_size'?"},
      {"jobb: encode\n", "FILE:1: unknown key 'jobb'; did you mean 'job'?"},
      {"run:\n  Seed: 4\n", "FILE:2: unknown key 'run.Seed'; did you mean 'run.seed'?"},
      {"zzzzzzzzzzzz: 1\n", "FILE:1: unknown key 'zzzzzzzzzzzz'"},
      {"\"zzzzzz\\eb\": 1\n", "FILE:1: unknown key 'zzzzzz\\x1bb'"},
  };
  for (const auto& row : rows) EXPECT_EQ(problems_of(relaxed_schema(), row.yaml), row.message) << row.yaml;
}

TEST(ConfigErrors, WrongTypesRangesAndChoices) {
  const Row rows[] = {
      {"run: {seed: abc}", "FILE:1: 'run.seed' is 'abc'; expected an integer, at least 0"},
      {"run: {seed: -1}", "FILE:1: 'run.seed' is '-1'; expected an integer, at least 0"},
      {"run: {seed: 1e5}", "FILE:1: 'run.seed' is '1e5'; expected an integer, at least 0"},
      {"run: {seed: 9223372036854775808}",
       "FILE:1: 'run.seed' is '9223372036854775808'; expected an integer, at least 0"},
      {"run: {seed: auto}", "FILE:1: 'run.seed' is 'auto'; expected an integer, at least 0"},
      {"run: {seed: }", "FILE:1: 'run.seed' has no value; expected an integer, at least 0"},
      {"run: {seed: ''}", "FILE:1: 'run.seed' is empty; expected an integer, at least 0"},
      {"run: {seed: [1, 2]}", "FILE:1: 'run.seed' is a list; expected an integer, at least 0"},
      {"run: {seed: {a: 1}}", "FILE:1: 'run.seed' is a section; expected an integer, at least 0"},
      {"run: {workers: 0}", "FILE:1: 'run.workers' is '0'; expected an integer from 1 to 4096, or auto"},
      {"run: {limit: -3}", "FILE:1: 'run.limit' is '-3'; expected an integer, at least 0, or none"},
      {"run: {strict: maybe}", "FILE:1: 'run.strict' is 'maybe'; expected true or false"},
      {"run: {max_time: soon}",
       "FILE:1: 'run.max_time' is 'soon'; expected a duration such as 90s, 15m, 1.5h or none"},
      {"run: {dtype: fp61}",
       "FILE:1: 'run.dtype' is 'fp61'; allowed: auto, fp32, bf16, fp16, int8; did you mean 'fp16'?"},
      {"run: {device: tpu-v4-pod}", "FILE:1: 'run.device' is 'tpu-v4-pod'; allowed: auto, cpu, cuda"},
      {"run: {gpu_ids: [0, x]}", "FILE:1: 'run.gpu_ids' is 'x'; expected a list of integers, at least 0"},
      {"run: {gpu_ids: [0, [1]]}",
       "FILE:1: 'run.gpu_ids' has an element that is no plain value; expected a list of integers, at least "
       "0"},
      {"run: {max_failures: 101%}",
       "FILE:1: 'run.max_failures' is '101%'; expected a number of items such as 10, or a share such as 2%"},
      {"run: 5", "FILE:1: 'run' is a section, not a value; write its keys below it"},
      {"run: [seed, 5]", "FILE:1: 'run' is a section, not a value; write its keys below it"},
      {"model: models/mpnet", "FILE:1: 'model' is a section, not a value; write its keys below it"},
  };
  for (const auto& row : rows) EXPECT_EQ(problems_of(relaxed_schema(), row.yaml), row.message) << row.yaml;
}

TEST(ConfigErrors, DuplicatesNameBothLines) {
  const Row rows[] = {
      {"run:\n  seed: 1\n  dtype: fp32\n  seed: 2\n", "FILE:4: 'run.seed' is given twice (first in line 2)"},
      {"run: {seed: 1}\njob: encode\nrun: {dtype: fp32}\n", "FILE:3: 'run' is given twice (first in line 1)"},
      {"run.seed: 1\nrun: {seed: 2}\n", "FILE:2: 'run.seed' is given twice (first in line 1)"},
  };
  for (const auto& row : rows) EXPECT_EQ(problems_of(relaxed_schema(), row.yaml), row.message) << row.yaml;
}

TEST(ConfigErrors, FilesThatAreNoConfig) {
  const std::string deep(200000, '[');
  const Row rows[] = {
      {"", "FILE is empty; a config file has keys such as `job: encode`"},
      {"# only a comment\n", "FILE is empty; a config file has keys such as `job: encode`"},
      {"just text\n", "FILE:1: expected keys such as `job: encode`"},
      {"\n- a\n- b\n", "FILE:2: expected keys such as `job: encode`"},
      {"job: encode\n---\njob: train\n", "FILE:3: a second document begins (`---`); a config file has one"},
      {"job: encode\nrun:\n  seed: \xff\xfe\n", "FILE:3: not UTF-8 text; save the file as UTF-8"},
      {"job: \xc0\xaf\n", "FILE:1: not UTF-8 text; save the file as UTF-8"},
      {"job: \xed\xa0\x80\n", "FILE:1: not UTF-8 text; save the file as UTF-8"},
      {"{[a]: 1}", "FILE:1: a key must be a plain name"},
      {", job: encode", "FILE:1: is not valid YAML: a value cannot begin here (column 1)"},
      {"# a\n,\n", "FILE:2: is not valid YAML: a value cannot begin here (column 1)"},
  };
  for (const auto& row : rows) EXPECT_EQ(problems_of(relaxed_schema(), row.yaml), row.message) << row.yaml;
  EXPECT_THAT(problems_of(relaxed_schema(), "job: encode\nrun:\n\tseed: 1\n"),
              HasSubstr("FILE:3: is not valid YAML"));
  EXPECT_THAT(problems_of(relaxed_schema(), "job: encode\nrun: {seed: 1\n"), HasSubstr("is not valid YAML"));
  EXPECT_THAT(problems_of(relaxed_schema(), "run: *nowhere\n"), HasSubstr("FILE:1: is not valid YAML"));
  EXPECT_THAT(problems_of(relaxed_schema(), std::string_view("job: a\0b\n", 9)),
              HasSubstr("FILE:1: not UTF-8 text"));
  EXPECT_THAT(problems_of(relaxed_schema(), "\xff\xfej\0o\0b\0"), HasSubstr("FILE:1: not UTF-8 text"));
}

TEST(ConfigErrors, NothingFollowsAQuotedTextOrAList) {
  struct Case {
    const char *key, *text;
  };
  for (const auto& [key, text] : {Case{"input.path", "[a] b]"},
                                  {"input.path", "[a], [b]"},
                                  {"job", "\"a\" \"b\""},
                                  {"job", "'a' b'"}}) {
    EXPECT_THAT(problems_of(relaxed_schema(), "job: x", {.sets = {{key, text}}}),
                HasSubstr(std::string("--set: '") + key + "' is not valid YAML"))
        << text;
  }
}

TEST(ConfigErrors, UnreadableFilesAreUsageErrors) {
  Sources sources;
  for (const char* path : {"/nonexistent/a.yaml", "/tmp", "/dev/zero"}) {
    sources.yaml_path = path;
    try {
      load_config(relaxed_schema(), sources);
      ADD_FAILURE() << path;
    } catch (const core::Error& error) {
      EXPECT_EQ(error.code(), core::ExitCode::kUsage);
      EXPECT_THAT(error.what(), HasSubstr(path));
    }
  }
}

std::string repeated(std::string_view text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

std::string alias_bomb() {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 30; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int k = 0; k < 9; ++k) text += before + ", ";
    text += before + "]\n";
  }
  return text + "run: {seed: *a29, gpu_ids: *a29}\n";
}

std::string many_unknown_keys() {
  std::string text;
  for (int i = 0; i < 30000; ++i) text += "unknown_key_with_a_long_name_" + std::to_string(i) + ": 1\n";
  return text;
}

TEST(ConfigErrors, HostileFilesEndQuicklyWithAnError) {
  const std::string files[] = {
      repeated("[", 1000000),
      repeated("{a: ", 200000),
      repeated("- ", 400000),
      repeated("? ", 400000),
      repeated("a:\n", 300000),
      std::string("job: ") + repeated("&a ", 300000),
      repeated("!", 1000000),
      alias_bomb(),
      many_unknown_keys(),
      "a: &a [*a]\nrun: {seed: *a}\n",
      "run: &r {run: *r}\n",
      repeated("x", (1 << 20) + 1),
      repeated("job: encode\n", 80000),
      "\"" + repeated("\\u0041", 150000) + "\": 1\n",
  };
  int index = 0;
  for (const auto& file : files) {
    const auto start = std::chrono::steady_clock::now();
    const std::string message = problems_of(relaxed_schema(), file);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_NE(message, "") << index;
    EXPECT_LE(std::count(message.begin(), message.end(), '\n'), 41) << index;
    EXPECT_LT(message.size(), 10000u) << index;
    EXPECT_LT(seconds.count(), 5) << "file " << index << ": " << message.substr(0, 100);
    ++index;
  }
}

TEST(ConfigErrors, AllProblemsAtOnceInOneError) {
  const std::string message = problems_of(
      common_schema(),
      "job: encode\n"
      "modle: {path: x}\n"
      "run:\n"
      "  seed: abc\n"
      "  seed: 4\n"
      "  dtype: fp61\n"
      "  batch_tokns: 4096\n"
      "input: here\n",
      {.sets = {{"run.schedul", "ceil"}, {"run.limit", "-1"}}, .flags = {{"run.hang_timeout", {"soon"}}}});
  EXPECT_EQ(message,
            "FILE:2: unknown key 'modle'; did you mean 'model'?\n"
            "FILE:4: 'run.seed' is 'abc'; expected an integer, at least 0\n"
            "FILE:5: 'run.seed' is given twice (first in line 4)\n"
            "FILE:6: 'run.dtype' is 'fp61'; allowed: auto, fp32, bf16, fp16, int8; did you mean 'fp16'?\n"
            "FILE:7: unknown key 'run.batch_tokns'; did you mean 'run.batch_tokens'?\n"
            "FILE:8: 'input' is a section, not a value; write its keys below it\n"
            "--set: unknown key 'run.schedul'; did you mean 'run.schedule'?\n"
            "--set: 'run.limit' is '-1'; expected an integer, at least 0, or none\n"
            "--hang-timeout: 'run.hang_timeout' is 'soon'; expected a duration such as 90s, 15m, 1.5h or "
            "none, at least 0.001s\n"
            "'model.path' is required: give -m MODEL or write `model: {path: MODEL}` in the config file\n"
            "'input.path' is required: give -i FILE... or write `input: {path: FILE...}` in the config file\n"
            "'output.dir' is required: give -o DIR or write `output: {dir: DIR}` in the config file");
}

TEST(ConfigErrors, AWrongValueIsNotCalledMissingToo) {
  const std::string message =
      problems_of(common_schema(), "model: {path: {a: b}}\ninput: {path: x}\noutput: {dir: y}\n");
  EXPECT_EQ(message, "FILE:1: 'model.path' is a section; expected a text");
}

TEST(ConfigErrors, EmptyTextsDoNotSatisfyRequiredKeys) {
  const std::string message =
      problems_of(common_schema(), "model: {path: ''}\ninput: {path: []}\noutput: {dir: y}\n");
  EXPECT_THAT(message, HasSubstr("'model.path' is required"));
  EXPECT_THAT(message, HasSubstr("'input.path' is required"));
  EXPECT_THAT(message, Not(HasSubstr("output.dir")));
}

TEST(ConfigErrors, SchemaMistakesAreInternalErrors) {
  Schema schema = common_schema();
  EXPECT_THROW(schema.add({.name = "run.seed"}), core::InternalError);
  EXPECT_THROW(schema.add({.name = "x.a", .flags = {"--batch_tokens"}}), core::InternalError);
  EXPECT_THROW(schema.set_default("no.key", "1"), core::InternalError);
  const Config config(relaxed_schema(), {});
  EXPECT_THROW(config.integer("run.nothing"), core::InternalError);
  EXPECT_THROW(config.integer("run.dtype"), core::InternalError);
  EXPECT_THROW(config.integer("run.workers"), core::InternalError) << "auto has no number yet";
  EXPECT_THROW(Config(relaxed_schema(), {{"run.seed", {.text = "x"}}}), core::ConfigError);
}

}  // namespace
}  // namespace muster::config
