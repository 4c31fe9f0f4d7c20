// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/survey.h"

#include <gtest/gtest.h>

#include "muster/core/error.h"
#include "support/job.h"

namespace muster::phases {
namespace {

struct Pass {
  std::vector<std::string> ids;
  bool changed = false;
};

// Surveys `before`, then reads the items of `after` under that survey.
Pass read_after_survey(const std::string& before, const std::string& after) {
  const test::Scratch scratch;
  const formats::InputConfig input{.paths = {scratch / "in.tsv"}};
  test::write_text(scratch / "in.tsv", before);
  const Survey survey = survey_input(input, [](const formats::Reject&, const std::vector<std::string>&) {});
  test::write_text(scratch / "in.tsv", after);
  Pass pass;
  try {
    AcceptedItems items(input, survey);
    for (formats::Item item; items.next(item);) pass.ids.push_back(item.id);
    formats::Item item;
    EXPECT_FALSE(items.next(item)) << "the end stays the end";
  } catch (const core::DataError&) {
    pass.changed = true;
  }
  return pass;
}

TEST(Survey, AcceptsWhatItSawAndNumbersItWithoutDuplicates) {
  const std::string text = "a\tone\nb\ttwo\na\tagain\nbroken\nc\tthree\n";
  const auto pass = read_after_survey(text, text);
  EXPECT_FALSE(pass.changed);
  EXPECT_EQ(pass.ids, (std::vector<std::string>{"a", "b", "c"}));
}

TEST(Survey, NoticesAnInputThatChangesUnderTheJob) {
  struct Case {
    const char* what;
    const char* after;
  };
  for (const auto& c : {Case{"edited text", "a\tone\nb\tTWO\n"},
                        {"edited id", "a\tone\nB\ttwo\n"},
                        {"shortened", "a\tone\n"},
                        {"grown", "a\tone\nb\ttwo\nc\tthree\n"},
                        {"emptied", ""}}) {
    EXPECT_TRUE(read_after_survey("a\tone\nb\ttwo\n", c.after).changed) << c.what;
  }
}

}  // namespace
}  // namespace muster::phases
