// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "muster/core/error.h"
#include "text/support.h"

namespace muster::text {
namespace {

using namespace muster::testing;

struct TruncationCase {
  const char* fixture;
  std::uint32_t before, after;  ///< special tokens
};

TEST(TokenizerTruncation, CutsTheTextOnTheRightAndKeepsSpecialTokens) {
  const std::string text = "the quick library with documentation for the development of programs";
  const TruncationCase cases[] = {
      {"bert_uncased", 1, 1}, {"roberta", 1, 1}, {"bpe_ignore_merges", 1, 2}, {"probe_gpt2", 0, 0}};
  for (const auto& c : cases) {
    const Tokenizer tokenizer = load_fixture(c.fixture);
    const auto whole = ids_of(tokenizer, text);
    const std::uint32_t special = c.before + c.after;
    ASSERT_EQ(tokenizer.special_tokens_count(), special);
    ASSERT_GT(whole.size(), 10u);
    for (std::uint32_t limit = special; limit < whole.size() + 3; ++limit) {
      Encoding encoding;
      tokenizer.encode(text, limit, encoding);
      EXPECT_EQ(encoding.full_length, whole.size()) << c.fixture << " at " << limit;
      EXPECT_EQ(encoding.truncated(), limit < whole.size());
      auto expected = whole;
      if (limit < whole.size()) {
        expected.erase(expected.begin() + (limit - c.after), expected.end() - c.after);
      }
      EXPECT_EQ(encoding.ids, expected) << c.fixture << " at " << limit;
    }
  }
}

TEST(TokenizerTruncation, IgnoresWhatTheFileSays) {
  // Every fixture asks for 7 tokens in its truncation section.
  EXPECT_GT(ids_of(load_fixture("bert_uncased"), "one two three four five six seven eight nine ten").size(),
            10u);
}

TEST(TokenizerTruncation, RefusesALimitWithoutRoomForSpecialTokens) {
  const Tokenizer tokenizer = load_fixture("bert_uncased");
  Encoding encoding;
  EXPECT_THROW(tokenizer.encode("a", 1, encoding), core::ConfigError);
  EXPECT_NO_THROW(tokenizer.encode("a", 2, encoding));
}

TEST(TokenizerTruncation, LongWordsStayCheap) {
  // A megabyte without a space: quadratic work would take minutes here.
  const std::string letters(1 << 20, 'e');
  std::string marks = "a";
  for (int i = 0; i < (1 << 18); ++i) marks += i % 2 == 0 ? "\u0301" : "\u0316";
  for (const auto* name : {"bert_uncased", "bert_accents", "roberta", "word_piece_short_words",
                           "bpe_suffix_unknown", "probe_nfc_words"}) {
    const Tokenizer tokenizer = load_fixture(name);
    EXPECT_FALSE(ids_of(tokenizer, letters).empty());
    EXPECT_FALSE(ids_of(tokenizer, marks).empty());
  }
}

TEST(TokenizerThreads, ManyThreadsGetTheIdsOfOne) {
  const auto texts = nasty_texts();
  for (const auto* name : {"bert_uncased", "roberta", "added_tokens"}) {
    const Tokenizer tokenizer = load_fixture(name);
    std::vector<std::vector<std::uint32_t>> expected;
    for (const auto& text : texts) expected.push_back(ids_of(tokenizer, text));
    std::vector<std::size_t> wrong(4, 0);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < wrong.size(); ++t) {
      threads.emplace_back([&, t] {
        Encoding encoding;  // reused, as workers do
        for (std::size_t k = 0; k < 3 * texts.size(); ++k) {
          const std::size_t i = (k * (2 * t + 1) + t) % texts.size();  // another order in each thread
          tokenizer.encode(texts[i], kNoLimit, encoding);
          wrong[t] += encoding.ids != expected[i];
        }
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(wrong, std::vector<std::size_t>(4, 0)) << name;
  }
}

TEST(TokenizerThreads, AMovedTokenizerWorks) {
  Tokenizer first = load_fixture("bert_uncased");
  const auto expected = ids_of(first, "the library");
  Tokenizer second = std::move(first);
  EXPECT_EQ(ids_of(second, "the library"), expected);
  second = load_fixture("bert_cased");
  EXPECT_FALSE(ids_of(second, "the library").empty());
}

}  // namespace
}  // namespace muster::text
