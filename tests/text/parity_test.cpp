// SPDX-License-Identifier: Apache-2.0
// Ids against the reference library, from the fixtures of generate_fixtures.py.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>

#include "muster/core/error.h"
#include "muster/formats/item_source.h"
#include "text/support.h"
#include "text/utf8.h"

namespace muster::text {
namespace {

using namespace muster::testing;

std::vector<std::string> fixture_names(std::string_view with_key) {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(fixtures())) {
    const auto expected = entry.path() / "expected.json";
    if (std::filesystem::exists(expected) && formats::read_json(expected.string()).has(with_key)) {
      out.push_back(entry.path().filename().string());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

formats::JsonValue expected_of(const std::string& name) {
  return formats::read_json((fixtures() / name / "expected.json").string());
}

std::vector<std::string> debian_texts() {
  formats::InputConfig config;
  config.paths = {(source_dir() / "configs/demo/debian_2000.tsv.gz").string()};
  config.format = formats::InputFormat::kTsv;
  const auto source = formats::open_text_source(config);
  std::vector<std::string> out;
  formats::Item item;
  formats::Reject reject;
  while (source->next(item, reject) == formats::RowKind::kItem) out.push_back(item.text);
  return out;
}

std::string digest_of_texts(const Tokenizer& tokenizer, const std::vector<std::string>& texts) {
  DigestOfMany digest;
  for (const auto& text : texts) digest.add(ids_of(tokenizer, text));
  return digest.finish();
}

/// The digests of `key` in a fixture, one a text.
void expect_digests(const std::string& name, std::string_view key, const std::vector<std::string>& texts) {
  constexpr std::size_t kDigits = 8;
  const Tokenizer tokenizer = load_fixture(name);
  const std::string expected = expected_of(name).get<std::string>(key);
  ASSERT_EQ(expected.size(), kDigits * texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(digest_of(ids_of(tokenizer, texts[i])).substr(0, kDigits),
              expected.substr(kDigits * i, kDigits))
        << name << ", text " << i << ": " << texts[i];
  }
}

TEST(TokenizerParity, NastyTexts) {
  const auto texts = nasty_texts();
  ASSERT_GE(texts.size(), 1000u);
  const auto names = fixture_names("nasty");
  ASSERT_GE(names.size(), 40u);
  for (const auto& name : names) expect_digests(name, "nasty", texts);
}

TEST(TokenizerParity, ClipTexts) {
  const auto texts = formats::read_json((fixtures() / "clip.json").string()).as_list<std::string>();
  const auto names = fixture_names("clip");
  ASSERT_GE(names.size(), 7u);
  for (const auto& name : names) expect_digests(name, "clip", texts);
}

TEST(TokenizerParity, IdsThatClipsCallersNeed) {
  for (const auto& name : fixture_names("clip")) {
    const auto expected = formats::read_json((fixtures() / name / "ids.json").string());
    const SpecialIds ids = load_fixture(name).special_ids();
    EXPECT_EQ(ids.begin, expected.get<std::uint32_t>("begin")) << name;
    EXPECT_EQ(ids.end, expected.get<std::uint32_t>("end")) << name;
    EXPECT_EQ(ids.pad, expected.get<std::uint32_t>("pad")) << name;
  }
  const SpecialIds bert = load_fixture("bert_vocabulary").special_ids();
  EXPECT_EQ(bert.begin, 2u);
  EXPECT_EQ(bert.end, 3u);
  EXPECT_EQ(bert.pad, 0u);
  const SpecialIds none = load_fixture("probe_gpt2").special_ids();
  EXPECT_FALSE(none.begin || none.end || none.pad);
}

TEST(TokenizerParity, DebianDescriptions) {
  const auto texts = debian_texts();
  ASSERT_EQ(texts.size(), 2000u);
  const auto names = fixture_names("sample");
  ASSERT_GE(names.size(), 13u);
  for (const auto& name : names) {
    EXPECT_EQ(digest_of_texts(load_fixture(name), texts), expected_of(name).get<std::string>("sample"))
        << name;
  }
}

TEST(TokenizerParity, RealModels) {
  const auto texts = debian_texts();
  std::string missing;
  for (const auto& [name, expected] :
       formats::read_json((fixtures() / "real_models.json").string()).members()) {
    const auto folder = source_dir() / "models" / name;
    if (!std::filesystem::exists(folder / "tokenizer.json")) {
      missing += fmt::format(" {}", name);
      continue;
    }
    EXPECT_EQ(digest_of_texts(Tokenizer::load(folder.string()), texts), expected.as<std::string>()) << name;
  }
  if (!missing.empty()) GTEST_SKIP() << "not in models/ (scripts/fetch_models.sh gets them):" << missing;
}

/// Alone, between letters, with marks to be ordered behind it, doubled: the text of generate_fixtures.py.
std::string sweep_text(char32_t c) {
  std::string own, out;
  append_utf8(own, c);
  return "A" + own + "\u0316\u0301\u05b0" + "1" + own + " " + own + own;
}

TEST(TokenizerParity, EveryCharacterInBlocks) {
  constexpr char32_t kBlock = 4096;
  const auto names = fixture_names("sweep");
  ASSERT_GE(names.size(), 10u);
  for (const auto& name : names) {
    const Tokenizer tokenizer = load_fixture(name);
    for (const auto& [start, expected] : expected_of(name).at("sweep").members()) {
      std::uint32_t first = 0;
      std::from_chars(start.data(), start.data() + start.size(), first, 16);
      DigestOfMany digest;
      for (char32_t c = first; c < first + kBlock; ++c) {
        if (c < 0xD800 || c > 0xDFFF) digest.add(ids_of(tokenizer, sweep_text(c)));
      }
      EXPECT_EQ(digest.finish().substr(0, 16), expected.view())
          << name << ", the 4096 characters from U+" << start;
    }
  }
}

struct TextCase {
  const char* fixture;
  std::string text;
  std::vector<std::string> tokens;
};

TEST(TokenizerParity, TokensAsAPersonExpects) {
  const std::vector<TextCase> cases = {
      {"bert_uncased", "", {"[CLS]", "[SEP]"}},
      {"bert_uncased", "The THE the\u0301", {"[CLS]", "the", "the", "the", "[SEP]"}},
      {"bert_uncased", "the [MASK].", {"[CLS]", "the", "[MASK]", ".", "[SEP]"}},
      {"bert_cased",
       "the\xe2\x80\x8b"
       "the",
       {"[CLS]", "the", "##th", "##e", "[SEP]"}},  // cleaned away
      {"roberta", " the the", {"<s>", "\u0120the", "\u0120the", "</s>"}},
      {"roberta",
       "a  <mask> a",
       {"<s>", "a", "<mask>", "\u0120a", "</s>"}},                       // lstrip takes the spaces before it
      {"bpe_suffix_unknown", "\u4f60\u597d the", {"<unk>", "the</w>"}},  // unknown characters are fused
      {"added_tokens", "the", {"[CLS]", "the", "[SEP]"}},
  };
  for (const auto& c : cases) {
    const Tokenizer tokenizer = load_fixture(c.fixture);
    std::vector<std::string> tokens;
    for (const auto id : ids_of(tokenizer, c.text)) tokens.push_back(tokenizer.id_to_token(id));
    EXPECT_EQ(tokens, c.tokens) << c.fixture << ": " << c.text;
  }
}

TEST(TokenizerParity, SizesAndNames) {
  const Tokenizer roberta = load_fixture("roberta");
  EXPECT_EQ(roberta.special_tokens_count(), 2u);
  EXPECT_EQ(roberta.vocab_size(), 1501u);  // the mask token was added behind 1,500
  EXPECT_EQ(roberta.id_to_token(1500), "<mask>");
  EXPECT_EQ(load_fixture("bpe_ignore_merges").special_tokens_count(), 3u);
  EXPECT_EQ(load_fixture("bert_vocabulary").special_tokens_count(), 2u);
  EXPECT_EQ(load_fixture("probe_gpt2").special_tokens_count(), 0u);
  EXPECT_THROW(roberta.id_to_token(1501), core::DataError);
}

TEST(TokenizerParity, InvalidUtf8NeverReadsBeyondTheText) {
  const std::vector<std::string> texts = {
      "\xff", "a\x80", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xf5\x80\x80\x80", "\xed\xa0\x80", "\xc0\xaf"};
  for (const auto* name :
       {"bert_uncased", "roberta", "probe_gpt2", "word_piece_short_words", "bpe_suffix_unknown"}) {
    const Tokenizer tokenizer = load_fixture(name);
    for (const auto& text : texts) {
      const std::vector<char> exact(text.begin(),
                                    text.end());  // no terminator behind it for a sanitizer to forgive
      for (const auto id : ids_of(tokenizer, {exact.data(), exact.size()}))
        EXPECT_LT(id, tokenizer.vocab_size());
    }
  }
}

}  // namespace
}  // namespace muster::text
