// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "muster/core/strings.h"
#include "support.h"

namespace muster::config {
namespace {

using ::testing::HasSubstr;

const std::vector<std::string> kExamples = {"muster toy a.yaml", "muster toy b.yaml"};

void expect_fits_a_screen(const std::string& page) {
  const auto lines = core::split(page, '\n');
  EXPECT_LE(lines.size(), 41u) << page;  // 40 and what follows the last line end
  for (const auto& line : lines) EXPECT_LE(line.size(), 100u) << line;
}

TEST(HelpPage, FitsAScreenAndEndsWithExamples) {
  const std::string page = help_page("toy [CONFIG.yaml]", "what it does", common_schema(), kExamples);
  expect_fits_a_screen(page);
  EXPECT_TRUE(page.starts_with("usage: muster toy [CONFIG.yaml]\n"));
  EXPECT_TRUE(page.ends_with("Examples:\n  muster toy a.yaml\n  muster toy b.yaml\n"));
}

TEST(HelpPage, ShowsEveryFlagWithItsDefault) {
  const Schema schema = common_schema();
  const std::string page = help_page("toy", "x", schema, kExamples);
  for (const auto& key : schema.keys()) {
    for (const auto& flag : key.flags) {
      if (flag == "--max-workers" || flag == "--output-dir") continue;  // legacy names
      EXPECT_THAT(page, HasSubstr(flag));
    }
  }
  EXPECT_THAT(page, HasSubstr("[balanced]"));
  EXPECT_THAT(page, HasSubstr("-m, --model MODEL"));
  EXPECT_THAT(page, HasSubstr("-n, --ranks N"));
  EXPECT_EQ(page.find("..."), page.find("FILE...") + 4) << "no line is cut";
}

TEST(HelpPage, AnOverfullPageMovesItsLastLinesTogether) {
  Schema schema = common_schema();
  for (int i = 0; i < 60; ++i)
    schema.add({.name = "toy.k" + std::to_string(i), .doc = "d", .flags = {"--k" + std::to_string(i)}});
  const std::string page = help_page("toy", "x", schema, kExamples);
  expect_fits_a_screen(page);
  EXPECT_THAT(page, HasSubstr("--k0 "));
  EXPECT_THAT(page, HasSubstr("--k59 "));
  EXPECT_TRUE(page.ends_with("muster toy b.yaml\n"));
}

TEST(HelpPage, FlagsAreFoundWithDashesAndUnderscores) {
  const Schema schema = common_schema();
  for (const char* flag : {"--batch-tokens", "--batch_tokens"}) {
    ASSERT_NE(schema.find_flag(flag), nullptr) << flag;
    EXPECT_EQ(schema.find_flag(flag)->name, "run.batch_tokens");
  }
  EXPECT_EQ(schema.find_flag("--max-workers")->name, "run.ranks");
  EXPECT_EQ(schema.find_flag("-m")->name, "model.path");
  EXPECT_EQ(schema.find_flag("--nothing"), nullptr);
}

TEST(HelpPage, MarkdownTableHasARowAKey) {
  const Schema schema = common_schema();
  const std::string table = markdown_table(schema);
  EXPECT_EQ(core::split(table, '\n').size(), schema.keys().size() + 3);
  EXPECT_THAT(table, HasSubstr("| `run.dtype` | `--dtype` | auto, fp32, bf16, fp16, int8 | `auto` |"));
  EXPECT_THAT(table, HasSubstr("| `model.path` | `-m` `--model` | text | required |"));
  for (const auto& line : core::split(table, '\n')) {
    if (line.empty()) continue;
    std::size_t bars = 0;
    for (std::size_t i = 0; i < line.size(); ++i) bars += line[i] == '|' && (i == 0 || line[i - 1] != '\\');
    EXPECT_EQ(bars, 7u) << line;
  }
}

}  // namespace
}  // namespace muster::config
