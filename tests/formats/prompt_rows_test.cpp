// SPDX-License-Identifier: Apache-2.0
// Prompts from TXT, TSV, CSV, JSONL and the command line: ids, seeds' rows, counts, and rows that cannot be
// used.
#include "muster/formats/prompt_row.h"
#include "testing.h"

namespace muster::formats {
namespace {

using testing::TemporaryFolder;

struct Read {
  std::vector<PromptRow> prompts;
  std::vector<std::uint64_t> lines;
  std::vector<Reject> rejects;
  std::vector<std::string> remarks;
};

Read read_all(InputConfig config, std::uint32_t count = 1) {
  config.text_column = "prompt";
  config.prompts = PromptInput{.count = count};
  const auto source = open_text_source(config);
  Read out;
  Item item;
  Reject reject;
  for (auto kind = source->next(item, reject); kind != RowKind::kEnd; kind = source->next(item, reject)) {
    if (kind == RowKind::kReject) {
      out.rejects.push_back(reject);
      continue;
    }
    out.prompts.push_back(parse_prompt_row(item.text));
    EXPECT_EQ(to_json(out.prompts.back()), item.text) << "one spelling";
    EXPECT_EQ(out.prompts.back().id, item.id);
    EXPECT_EQ(item.row, out.prompts.size() - 1);
    out.lines.push_back(item.line);
  }
  out.remarks = source->remarks();
  return out;
}

Read read_text(const std::string& name, std::string_view content, std::uint32_t count = 1) {
  const TemporaryFolder folder;
  return read_all({.paths = {folder.write(name, content)}}, count);
}

std::vector<std::string> ids_of(const Read& read) {
  std::vector<std::string> ids;
  for (const auto& prompt : read.prompts) ids.push_back(prompt.id);
  return ids;
}

using Strings = std::vector<std::string>;

TEST(PromptRows, EveryColumnOfACsvIsRead) {
  const auto read =
      read_text("p.csv",
                "\xEF\xBB\xBFprompt,negative_prompt,seed,width,height,steps,guidance,count,id\r\n"
                "\"A cat, sitting\",blurry,7,64,96,4,6.5,2,cat\r\n"
                "A dog,,,,,,,,dog\r\n");
  ASSERT_EQ(read.rejects.size(), 0u);
  ASSERT_EQ(ids_of(read), (Strings{"cat", "cat_1", "dog"}));
  const PromptRow cat{.id = "cat",
                      .prompt = "A cat, sitting",
                      .negative_prompt = "blurry",
                      .seed = 7,
                      .width = 64,
                      .height = 96,
                      .steps = 4,
                      .guidance = 6.5,
                      .row = 0,
                      .copy = 0};
  EXPECT_EQ(read.prompts[0], cat);
  EXPECT_EQ(read.prompts[1].copy, 1u);
  EXPECT_EQ(read.prompts[1].row, 0u);
  const PromptRow dog{.id = "dog",
                      .prompt = "A dog",
                      .negative_prompt = {},
                      .seed = {},
                      .width = {},
                      .height = {},
                      .steps = {},
                      .guidance = {},
                      .row = 1,
                      .copy = 0};
  EXPECT_EQ(read.prompts[2], dog);
}

TEST(PromptRows, AHeaderNeedsTheirNameAlone) {
  EXPECT_EQ(read_text("p.csv", "prompt,seed\nA cat,3\n").prompts.at(0).seed, 3u);
  EXPECT_EQ(read_text("p.tsv", "prompt\nA cat\n").prompts.at(0).prompt, "A cat");
  EXPECT_EQ(ids_of(read_text("p.tsv", "a\tA cat\nb\tA dog\n")), (Strings{"a", "b"}))
      << "two columns without one";
  EXPECT_EQ(read_text("p.csv", "A cat\nA dog\n").prompts.size(), 2u);
  EXPECT_THROW(read_text("p.csv", "id,text,seed\n1,A cat,2\n"), core::DataError) << "no prompt column";
  const auto read = read_text("p.csv", "prompt,style,seed\nA cat,oil,3\n");
  ASSERT_EQ(read.remarks.size(), 1u);
  EXPECT_NE(read.remarks[0].find("'style'"), std::string::npos) << read.remarks[0];
}

TEST(PromptRows, AHeaderThatNamesNoPromptColumnIsNoPrompt) {
  struct Case {
    const char *file, *content, *header;
  };
  const Case refused[] = {{"p.csv", "Prompt,Seed\nA cat,3\n", "'Prompt', 'Seed'"},
                          {"p.csv", "text,seed\nA cat,3\n", "'text', 'seed'"},
                          {"p.csv", "id,caption\n1,A cat\n", "'id', 'caption'"},
                          {"p.csv", "PROMPT\nA cat\n", "'PROMPT'"},
                          {"p.csv", "prompt;seed\nA cat;3\n", "'prompt;seed'"},
                          {"p.tsv", "Id\tPrompt\n1\tA cat\n", "'Id', 'Prompt'"}};
  for (const auto& [file, content, header] : refused) {
    try {
      read_text(file, content);
      ADD_FAILURE() << content << " was read";
    } catch (const core::DataError& error) {
      EXPECT_NE(std::string(error.what()).find("'prompt' is not in the header (" + std::string(header)),
                std::string::npos)
          << error.what();
    }
  }
  EXPECT_EQ(read_text("p.csv", "\"A prompt, please\"\nsteps\n").prompts.size(), 2u);
  EXPECT_EQ(read_text("p.csv", "steps\nA cat\n").prompts.size(), 2u) << "one word is a prompt";
}

TEST(PromptRows, JsonlHasTheSameKeys) {
  const auto read = read_text(
      "p.jsonl",
      "{\"prompt\":\"A cat\",\"seed\":9223372036854775807,\"guidance\":7,\"count\":\"2\",\"extra\":[1]}\n"
      "\n"
      "{\"prompt\":\"A dog\",\"negative_prompt\":\"\",\"width\":64.0,\"seed\":null}\n"
      "{\"prompt\":\"A fish\",\"steps\":true}\n"
      "{\"prompt\":\"A\\u0000fish\"}\n");
  ASSERT_EQ(ids_of(read), (Strings{"0", "0_1", "1"}));
  EXPECT_EQ(read.prompts[0].seed, kMostPromptSeed);
  EXPECT_EQ(read.prompts[0].guidance, 7.0);
  EXPECT_EQ(read.prompts[2].negative_prompt, "") << "given, and empty";
  EXPECT_EQ(read.prompts[2].width, 64u);
  ASSERT_EQ(read.rejects.size(), 2u);
  EXPECT_NE(read.rejects[0].reason.find("'steps' is a bool"), std::string::npos) << read.rejects[0].reason;
  EXPECT_NE(read.rejects[1].reason.find("NUL"), std::string::npos) << read.rejects[1].reason;
}

struct BadCell {
  const char* cells;  ///< seed, width, height, steps, guidance, count
  const char* reason;
};

TEST(PromptRows, ABadValueRejectsItsRowWithLineAndReason) {
  const BadCell table[] = {
      {"-1,,,,,", "seed is '-1'"},         {"9223372036854775808,,,,,", "seed is '9223372036854775808'"},
      {"x,,,,,", "seed is 'x'"},           {",abc,,,,", "width is 'abc'"},
      {",0,,,,", "width is '0'"},          {",,64.5,,,", "height is '64.5'"},
      {",,70000,,,", "height is '70000'"}, {",,,-3,,", "steps is '-3'"},
      {",,,0,,", "steps is '0'"},          {",,,,nan,", "guidance is 'nan'"},
      {",,,,-1,", "guidance is '-1'"},     {",,,,1e999,", "guidance is '1e999'"},
      {",,,,,0", "count is '0'"},          {",,,,,99999999", "count is '99999999'"}};
  for (const auto& bad : table) {
    SCOPED_TRACE(bad.cells);
    const auto read = read_text("p.csv", std::string("id,prompt,seed,width,height,steps,guidance,count\n"
                                                     "a,A cat,,,,,,\nb,A dog,") +
                                             bad.cells + "\nc,A fish, 5 ,64.0,,,,\n");
    EXPECT_EQ(ids_of(read), (Strings{"a", "c"}));
    EXPECT_EQ(read.prompts.back().row, 2u) << "a repaired row must not move the others' seeds";
    EXPECT_EQ(read.prompts.back().seed, 5u) << "blanks around it";
    ASSERT_EQ(read.rejects.size(), 1u);
    EXPECT_EQ(read.rejects[0].line, 3u);
    EXPECT_EQ(read.rejects[0].id, "b");
    EXPECT_EQ(read.rejects[0].reason.find(bad.reason), 0u) << read.rejects[0].reason;
  }
  const auto columns = read_text("p.csv", "prompt,seed\nA cat,1,2\nA dog,4\n");
  EXPECT_EQ(columns.rejects.size(), 1u);
  EXPECT_EQ(columns.prompts.at(0).row, 1u);
}

TEST(PromptRows, CountOfTheJobIsForRowsWithoutOne) {
  const auto read = read_text("p.csv", "prompt,count\nA cat,1\nA dog,\n", 3);
  EXPECT_EQ(ids_of(read), (Strings{"0", "1", "1_1", "1_2"}));
  EXPECT_EQ(ids_of(read_text("p.txt", "A cat\n\nA dog", 2)), (Strings{"0", "0_1", "1", "1_1", "2", "2_1"}))
      << "an empty line is a prompt";
}

TEST(PromptRows, TheLimitCountsRows) {
  const TemporaryFolder folder;
  InputConfig config{.paths = {folder.write("p.txt", "a\nb\nc\n")}};
  config.limit = 2;
  EXPECT_EQ(ids_of(read_all(config, 2)), (Strings{"0", "0_1", "1", "1_1"}));
}

TEST(PromptRows, TextsMayStandInTheConfig) {
  InputConfig config;
  config.texts = {"A cat", "A dog\nand more", std::string("A\0fish", 6), "\xFF"};
  const auto read = read_all(config, 1);
  EXPECT_EQ(ids_of(read), (Strings{"0", "1", "3"}));
  EXPECT_EQ(read.prompts[1].prompt, "A dog\nand more");
  EXPECT_EQ(read.prompts[2].prompt, "\xEF\xBF\xBD");
  EXPECT_EQ(read.rejects.size(), 1u);
}

TEST(PromptRows, JsonIsReadBackWhole) {
  PromptRow row{.id = "../x\"",
                .prompt = "\n\xF0\x9F\x90\x88 \xD7\xA9",
                .negative_prompt = "",
                .seed = kMostPromptSeed,
                .width = 1,
                .height = 65536,
                .steps = 3,
                .guidance = 0.1,
                .row = 7,
                .copy = 2};
  EXPECT_EQ(parse_prompt_row(to_json(row)), row);
  EXPECT_THROW(parse_prompt_row("{}"), core::DataError);
  EXPECT_THROW(parse_prompt_row("A cat"), core::DataError);
}

}  // namespace
}  // namespace muster::formats
