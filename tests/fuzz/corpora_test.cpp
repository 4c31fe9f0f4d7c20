// SPDX-License-Identifier: Apache-2.0
// Every committed seed through its target, with the ordinary compiler: what a fuzzer once found stays found.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "muster/core/env.h"
#include "muster/core/log.h"

namespace muster::fuzz {
namespace {

namespace fs = std::filesystem;

fs::path corpus() {
  return fs::path(core::env("MUSTER_SOURCE_DIR").value_or(".")) / "tests/fuzz/corpus";
}

std::string content_of(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

class Corpora : public ::testing::TestWithParam<Target> {};

TEST_P(Corpora, KeepEveryPromise) {
  const Target& target = GetParam();
  core::log::set_console_level(core::log::Level::kError);
  int seeds = 0;
  for (const auto& seed : fs::directory_iterator(corpus() / target.name)) {
    ++seeds;
    EXPECT_NO_THROW(target.run(content_of(seed.path()))) << seed.path();
  }
  EXPECT_GT(seeds, 1) << "a target starts from seeds";
  EXPECT_NO_THROW(target.run("")) << "the empty input";
}

INSTANTIATE_TEST_SUITE_P(Targets, Corpora, ::testing::ValuesIn(kTargets),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Corpus, HasAFolderForEachTargetAndNoOther) {
  std::set<std::string> folders, names;
  for (const auto& folder : fs::directory_iterator(corpus()))
    folders.insert(folder.path().filename().string());
  for (const Target& target : kTargets) names.insert(target.name);
  EXPECT_EQ(folders, names);
}

// What the targets judge by is judged itself.
TEST(Support, KnowsUtf8) {
  struct Case {
    std::string_view text;
    bool valid;
  };
  for (const auto& [text, valid] :
       {Case{"", true}, Case{"a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", true}, Case{"\xF4\x8F\xBF\xBF", true},
        Case{"\x80", false}, Case{"\xC3", false}, Case{"\xC1\x81", false}, Case{"\xE0\x9F\xBF", false},
        Case{"\xED\xA0\x80", false}, Case{"\xF4\x90\x80\x80", false}, Case{"\xF8\x88\x80\x80\x80", false}}) {
    EXPECT_EQ(is_utf8(text), valid) << testing::PrintToString(text);
  }
}

TEST(Support, LetsOnlyDocumentedErrorsPass) {
  EXPECT_EQ(unless<core::DataError>([] { return 7; }), 7);
  EXPECT_EQ(unless<core::DataError>([]() -> int { throw core::DataError("damaged"); }), std::nullopt);
  EXPECT_THROW(unless<core::DataError>([]() -> int { throw core::InternalError("ours"); }),
               core::InternalError);
  EXPECT_THROW(unless<core::Error>([]() -> int { throw Broken("promise"); }), Broken);
}

}  // namespace
}  // namespace muster::fuzz
