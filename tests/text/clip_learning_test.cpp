// SPDX-License-Identifier: Apache-2.0
// A CLIP vocabulary learnt from texts: which pairs are merged, and that the tokenizer reads what is written.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "muster/text/clip_vocabulary.h"
#include "muster/text/tokenizer.h"

namespace muster::text {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

struct LearningCase {
  const char* name;
  std::vector<std::string> texts;
  std::uint32_t most;
  std::vector<std::string> merges;
};

class ClipLearning : public testing::TestWithParam<LearningCase> {};

TEST_P(ClipLearning, MergesTheMostFrequentPairFirst) {
  const auto& [name, texts, most, merges] = GetParam();
  const ClipVocabulary learnt = learn_clip_vocabulary(texts, most);
  auto lines = lines_of(learnt.merges);
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(lines.front(), "#version: 0.2");
  lines.erase(lines.begin());
  EXPECT_EQ(lines, merges);
  EXPECT_EQ(learnt.size, kLeastClipVocabulary + merges.size());
}

INSTANTIATE_TEST_SUITE_P(
    Texts, ClipLearning,
    testing::Values(
        LearningCase{"nothing", {}, 600, {}},
        // "a t</w>" three times; "c at</w>" and "h at</w>" have fewer; a pair seen once stays apart.
        LearningCase{"cat", {"a cat", "The CAT", "a hat"}, 600, {"a t</w>", "c at</w>"}},
        LearningCase{"room", {"a cat", "the cat", "a hat"}, 515, {"a t</w>"}},
        LearningCase{"ties", {"ab cd", "cd ab"}, 600, {"a b</w>", "c d</w>"}},
        // Overlapping pairs: the left one is taken.
        LearningCase{"runs", {"aaaa aaaa"}, 600, {"a a", "a a</w>", "aa aa</w>"}},
        // Digits are words of their own.
        LearningCase{"digits", {"12 12"}, 600, {}}),
    [](const auto& info) { return info.param.name; });

TEST(ClipLearning, TheTokenizerReadsItAndBytesAreNeverUnknown) {
  std::string folder = (std::filesystem::temp_directory_path() / "muster_clip_XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::vector<std::string> texts{"a cat", "the cat", "a hat"};
  const ClipVocabulary learnt = learn_clip_vocabulary(texts, 600);
  std::ofstream(folder + "/vocab.json") << learnt.vocabulary;
  std::ofstream(folder + "/merges.txt") << learnt.merges;
  const auto tokenizer = Tokenizer::load(folder);
  std::filesystem::remove_all(folder);
  EXPECT_EQ(tokenizer.vocab_size(), learnt.size);
  const auto tokens = [&](const char* text) {
    Encoding encoding;
    tokenizer.encode(text, 16, encoding);
    std::vector<std::string> out;
    for (const auto id : encoding.ids) out.push_back(tokenizer.id_to_token(id));
    return out;
  };
  using Tokens = std::vector<std::string>;
  EXPECT_EQ(tokens("A Cat"), (Tokens{"<|startoftext|>", "a</w>", "cat</w>", "<|endoftext|>"}));
  EXPECT_EQ(tokens("ü"), (Tokens{"<|startoftext|>", "Ã", "¼</w>", "<|endoftext|>"}));
}

}  // namespace
}  // namespace muster::text
