// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "support.h"

namespace muster::config {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Config load(std::string_view yaml, Sources sources = {}) {
  const ScratchFile file(yaml);
  sources.yaml_path = file.path();
  return load_config(relaxed_schema(), sources);
}

TEST(ConfigPrecedence, FlagBeatsSetBeatsFileBeatsDefault) {
  struct Row {
    bool file, set, flag;
    const char* value;
    const char* origin;  ///< its end
  };
  const Row rows[] = {
      {false, false, false, "42", "default"}, {true, false, false, "1", ".yaml:2"},
      {false, true, false, "2", "--set"},     {true, true, false, "2", "--set"},
      {false, false, true, "3", "--seed"},    {true, false, true, "3", "--seed"},
      {false, true, true, "3", "--seed"},     {true, true, true, "3", "--seed"},
  };
  for (const auto& row : rows) {
    Sources sources;
    if (row.set) sources.sets = {{"run.seed", "7"}, {"run.seed", "2"}};
    if (row.flag) sources.flags = {{"run.seed", {"3"}}};
    const Config config = load(row.file ? "run:\n  seed: 1\n" : "job: encode\n", sources);
    EXPECT_EQ(config.string("run.seed"), row.value);
    EXPECT_TRUE(config.value("run.seed").origin.ends_with(row.origin)) << config.value("run.seed").origin;
    EXPECT_EQ(config.is_default("run.seed"), !row.file && !row.set && !row.flag);
  }
}

TEST(ConfigPrecedence, ListsAreReplacedNotMerged) {
  const Config config = load("input: {path: [a, b]}\n",
                             {.sets = {{"input.path", "[c]"}}, .flags = {{"input.path", {"d", "e"}}}});
  EXPECT_THAT(config.strings("input.path"), ElementsAre("d", "e"));
}

TEST(ConfigPrecedence, NoFileIsFine) {
  const Config config = load_config(relaxed_schema(), {.sets = {{"run.dtype", "fp32"}}});
  EXPECT_EQ(config.string("run.dtype"), "fp32");
}

TEST(ConfigPrecedence, SetTakesScalarsAndFlowLists) {
  struct Row {
    const char* text;
    std::vector<std::string> list;
  };
  const Row rows[] = {
      {"a", {"a"}},         {"[a, b]", {"a", "b"}},  {"['a, b', c]", {"a, b", "c"}},
      {"[]", {}},           {"a: b", {"a: b"}},      {"#x", {"#x"}},
      {"*.tsv", {"*.tsv"}}, {"\"a\\tb\"", {"a\tb"}}, {"'it''s'", {"it's"}},
      {"null", {"null"}},   {"{a}", {"{a}"}},        {"[ab].tsv", {"[ab].tsv"}},
      {"x=y=z", {"x=y=z"}}, {"a,b", {"a,b"}},
  };
  for (const auto& row : rows) {
    const Config config = load("job: encode\n", {.sets = {{"input.path", row.text}}});
    EXPECT_EQ(config.strings("input.path"), row.list) << row.text;
  }
  EXPECT_EQ(load("job: x\n", {.sets = {{"output.dir", "[x]"}}}).string("output.dir"), "[x]")
      << "no list, so a text";
  EXPECT_THAT(problems_of(relaxed_schema(), "job: x\n", {.sets = {{"input.path", "[a, *b]"}}}),
              ::testing::HasSubstr("--set: 'input.path'"));
  EXPECT_THAT(problems_of(relaxed_schema(), "job: x\n", {.sets = {{"input.path", "[a, [b]]"}}}),
              ::testing::HasSubstr("--set: 'input.path'"));
}

TEST(ConfigPrecedence, TypedValues) {
  const Config config = load(
      "run: {seed: 007, strict: Yes, max_time: 1.5h, hang_timeout: 250ms, gpu_ids: [0, 3], batch_tokens: "
      "4096}\n"
      "input: {path: one.tsv}\n");
  EXPECT_EQ(config.integer("run.seed"), 7);
  EXPECT_TRUE(config.boolean("run.strict"));
  EXPECT_EQ(config.duration("run.max_time"), 5400);
  EXPECT_EQ(config.duration("run.hang_timeout"), 0.25);
  EXPECT_THAT(config.integers("run.gpu_ids"), ElementsAre(0, 3));
  EXPECT_EQ(config.number("run.batch_tokens"), 4096);
  EXPECT_THAT(config.strings("input.path"), ElementsAre("one.tsv")) << "a scalar is a list of one";
  EXPECT_EQ(config.integer("run.limit"), std::numeric_limits<std::int64_t>::max()) << "none";
  EXPECT_TRUE(config.is_auto("run.workers"));
  EXPECT_THAT(load("run: {gpu_ids: '0,2'}\n").integers("run.gpu_ids"), ElementsAre(0, 2));
  EXPECT_THAT(load("run:\n").integers("run.gpu_ids"), IsEmpty()) << "a section whose keys are commented out";
  EXPECT_TRUE(std::isinf(load("job: encode\n").duration("run.max_time")));
}

TEST(ConfigPrecedence, DefaultsAreThoseOfTheReference) {
  const std::pair<const char*, const char*> rows[] = {
      {"input.format", "auto"},
      {"run.device", "auto"},
      {"run.dtype", "auto"},
      {"run.schedule", "balanced"},
      {"run.seed", "42"},
      {"run.batch_tokens", "auto"},
      {"run.backend", "auto"},
      {"run.nccl_timeout", "1h"},
      {"run.max_time", "none"},
      {"run.hang_timeout", "15m"},
      {"run.on_truncate", "warn"},
      {"run.max_failures", "0"},
      {"run.ranks", "auto"},
      {"run.window_items", "65536"},
      {"run.commit_interval", "1s"},
      {"run.limit", "none"},
  };
  const Config config(relaxed_schema(), {});
  for (const auto& [name, value] : rows) EXPECT_EQ(config.string(name), value) << name;
  Schema ceil = relaxed_schema();
  EXPECT_EQ(Config(ceil.set_default("run.schedule", "ceil"), {}).string("run.schedule"), "ceil");
}

TEST(ConfigPrecedence, FailuresAllowed) {
  struct Row {
    const char* text;
    std::uint64_t items, allowed;
  };
  const Row rows[] = {{"0", 100, 0},     {"10", 5, 10},  {"2%", 100, 2}, {"2%", 149, 2},
                      {"0.5%", 1000, 5}, {"100%", 7, 7}, {"5%", 0, 0}};
  for (const auto& row : rows) EXPECT_EQ(failures_allowed(row.text, row.items), row.allowed) << row.text;
  for (const char* text : {"", "%", "-1", "1.5", "101%", "2 %", "many"})
    EXPECT_THROW(failures_allowed(text, 1), core::ConfigError) << text;
}

TEST(ConfigPrecedence, ReadJob) {
  EXPECT_EQ(read_job(ScratchFile("run: {sed: 4}\njob: encode\n").path()), "encode");
  EXPECT_EQ(read_job(ScratchFile("run: {seed: 4}\n").path()), "");
  EXPECT_EQ(read_job(ScratchFile("\xEF\xBB\xBFjob: 'encode'\r\n").path()), "encode")
      << "byte-order mark and CRLF";
  EXPECT_THROW(read_job(ScratchFile("job: [\n").path()), core::ConfigError);
}

Config reloaded(const Config& config) {
  const ScratchFile file(config.to_yaml());
  return load_config(config.schema(), {.yaml_path = file.path()});
}

void expect_same_values(const Config& a, const Config& b) {
  for (const auto& key : a.schema().keys()) {
    EXPECT_EQ(a.value(key.name).text, b.value(key.name).text) << key.name;
    EXPECT_EQ(a.value(key.name).list, b.value(key.name).list) << key.name;
  }
  EXPECT_EQ(a.identity(), b.identity());
  EXPECT_EQ(a.to_yaml(), b.to_yaml());
}

TEST(ConfigRoundTrip, DefaultsAndNestedKeys) {
  Schema schema = relaxed_schema();
  schema.add({.name = "encode.deep.est", .type = KeyType::kFloat, .default_value = "1e-4"});
  schema.add({.name = "model.pooling", .default_value = "auto"});  // its section came earlier
  const Config config(schema, {});
  const std::string yaml = config.to_yaml();
  EXPECT_EQ(yaml.find("model:"), yaml.rfind("model:")) << "each section once:\n" << yaml;
  EXPECT_NE(yaml.find("deep:\n    est: 1e-4"), std::string::npos) << yaml;
  expect_same_values(config, reloaded(config));
}

TEST(ConfigRoundTrip, TextsThatNeedQuotes) {
  const std::string texts[] = {
      "yes",
      "No",
      "on",
      "y",
      "null",
      "~",
      "1e5",
      "0x10",
      "1.0",
      "12:30:45",
      "2024-01-01",
      ".inf",
      "",
      " ",
      " lead",
      "trail ",
      "a: b",
      "#x",
      "a #b",
      "- a",
      "[a]",
      "{a: b}",
      "*a",
      "&a",
      "!a",
      "|",
      ">",
      "%a",
      "@a",
      "`a",
      "'",
      "\"",
      "a'b\"c",
      "\\n",
      "back\\",
      "two\nlines",
      "\n",
      "tab\tinside",
      "cr\r\n",
      "\xC3\xA9t\xC3\xA9",
      "\xE6\x97\xA5\xE6\x9C\xAC",
      "\xF0\x9F\x98\x80",
      "\xC2\x85",
      "\xE2\x80\xA8",
      "\xEF\xBB\xBF"
      "bom",
      "---",
      "...",
      "a,b",
      ",",
      "?",
      "? a",
      ":",
      "a:",
      "=",
      "<<",
      "data/docs.tsv",
      "/abs/path-1_2.tsv",
      std::string(5000, 'x'),
      "long words " + std::string(300, 'y') + " and more words",
  };
  std::vector<std::string> all;
  for (const auto& text : texts) {
    const Config config(relaxed_schema(), {{"model.path", {.text = text}}, {"input.id", {.text = text}}});
    const Config again = reloaded(config);
    EXPECT_EQ(again.string("model.path"), text);
    expect_same_values(config, again);
    if (!text.empty()) all.push_back(text);
  }
  const Config lists(relaxed_schema(), {{"input.path", {.text = {}, .list = all}}});
  EXPECT_EQ(reloaded(lists).strings("input.path"), all);
}

TEST(ConfigRoundTrip, TextsThatOtherReadersTakeForSomethingElseAreQuoted) {
  for (const char* text : {"yes", "1e5", "null", "12:30:45", "2024-01-01", "n", ".5"}) {
    const Config config(relaxed_schema(), {{"model.path", {.text = text}}});
    EXPECT_NE(config.to_yaml().find("path: \"" + std::string(text) + "\""), std::string::npos)
        << config.to_yaml();
  }
}

TEST(ConfigRoundTrip, TextsThatNoFileCanHoldAreRefused) {
  for (const char* text : {"\xff", "a\x1b[31m", "\x01"}) {
    const Sources sources{.flags = {{"model.path", {text}}}};
    EXPECT_THROW(load_config(relaxed_schema(), sources), core::ConfigError);
  }
}

TEST(ConfigRoundTrip, ResolvedValuesStay) {
  Config config(relaxed_schema(), {});
  config.resolve("run.dtype", "bf16");
  config.resolve("run.workers", "2");
  EXPECT_EQ(config.value("run.dtype").origin, "auto");
  EXPECT_EQ(reloaded(config).integer("run.workers"), 2);
  EXPECT_THROW(config.resolve("run.dtype", "fp61"), core::InternalError);
}

TEST(ConfigRoundTrip, IdentityHasOneSpelling) {
  Schema schema;
  schema.add({.name = "f", .type = KeyType::kFloat, .default_value = "0", .affects = AffectsResults::kYes})
      .add({.name = "b", .type = KeyType::kBool, .default_value = "false", .affects = AffectsResults::kYes})
      .add({.name = "i", .type = KeyType::kInt, .default_value = "0", .affects = AffectsResults::kYes})
      .add({.name = "d", .type = KeyType::kDuration, .default_value = "1s", .affects = AffectsResults::kYes})
      .add({.name = "l", .type = KeyType::kIntList, .default_value = "[]", .affects = AffectsResults::kYes})
      .add({.name = "unimportant", .default_value = "x"});
  struct Row {
    const char *key, *a, *b;
    bool equal;
  };
  const Row rows[] = {
      {"f", "1e-4", "0.0001", true},
      {"f", "-0.0", "0", true},
      {"f", "0.1", "0.10000000000000002", false},
      {"b", "yes", "true", true},
      {"b", "OFF", "false", true},
      {"b", "on", "off", false},
      {"i", "007", "7", true},
      {"d", "90s", "1.5m", true},
      {"d", "none", "1d", false},
      {"unimportant", "p", "q", true},
  };
  for (const auto& row : rows) {
    const Config a(schema, {{row.key, {.text = row.a}}}), b(schema, {{row.key, {.text = row.b}}});
    EXPECT_EQ(a.identity() == b.identity(), row.equal) << row.key << ' ' << row.a << ' ' << row.b;
  }
  EXPECT_EQ(Config(schema, {{"l", {.text = {}, .list = {"1", "02"}}}}).identity().at("l"), "[1, 2]");
}

TEST(ConfigRoundTrip, IdentityHoldsWhatChangesResultsAndNothingElse) {
  std::vector<std::string> names;
  for (const auto& [name, value] : Config(relaxed_schema(), {}).identity()) names.push_back(name);
  EXPECT_THAT(names, ElementsAre("input.format", "input.id", "input.text", "run.device", "run.dtype",
                                 "run.limit", "run.on_truncate", "run.seed"));
}

}  // namespace
}  // namespace muster::config
