// SPDX-License-Identifier: Apache-2.0
// Damaged and unsupported files: each is refused with a message that names the place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>

#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "text/support.h"

namespace muster::text {
namespace {

using namespace muster::testing;
using ::testing::HasSubstr;

struct Parts {
  std::string head = R"("version":"1.0",)";
  std::string added = "[]";
  std::string normalizer = "null";
  std::string pre_tokenizer = R"({"type":"BertPreTokenizer"})";
  std::string post_processor = "null";
  std::string model =
      R"({"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,)"
      R"("vocab":{"[UNK]":0,"a":1,"b":2}})";

  std::string json() const {
    return "{" + head + R"("truncation":null,"padding":null,"added_tokens":)" + added + R"(,"normalizer":)" +
           normalizer + R"(,"pre_tokenizer":)" + pre_tokenizer + R"(,"post_processor":)" + post_processor +
           R"(,"decoder":null,"model":)" + model + "}";
  }
};

/// The message of the DataError; fails the test when there is none.
std::string refusal(const std::string& json) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", json);
  try {
    Tokenizer::load(folder.path());
  } catch (const core::DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.json"));
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another error: ") + error.what();
  }
  return "accepted";
}

/// A normalizer that makes two of every a.
constexpr const char* kDoubling = R"({"type":"Replace","pattern":{"String":"a"},"content":"aa"})";
std::string join_copies(const std::string& text, std::size_t count) {
  return core::join(std::vector(count, text), ",");
}

std::string added(
    const std::string& content, int id,
    const std::string& rest =
        R"("single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true)") {
  return R"({"id":)" + std::to_string(id) + R"(,"content":")" + content + "\"," + rest + "}";
}

std::string word_piece(const std::string& vocab, const std::string& unk = R"("unk_token":"[UNK]",)") {
  return R"({"type":"WordPiece",)" + unk +
         R"("continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":)" + vocab + "}";
}
std::string byte_pair(const std::string& rest) {
  return R"({"type":"BPE","vocab":{"a":0,"b":1,"ab":2},)" + rest + "}";
}

TEST(TokenizerRejects, TheUndamagedFileIsAccepted) {
  EXPECT_EQ(refusal(Parts{}.json()), "accepted");
}

TEST(TokenizerRejects, EveryPrefixOfAFile) {
  Parts parts;
  parts.added = "[" + added("<x>", 3) + "]";
  const std::string whole = parts.json();
  ASSERT_EQ(refusal(whole), "accepted");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THAT(refusal(whole.substr(0, size)), HasSubstr("tokenizer.json")) << size;
  }
}

struct RejectCase {
  const char* what;
  Parts parts;
  std::vector<std::string> says;
};

TEST(TokenizerRejects, DamagedModels) {
  const std::vector<RejectCase> cases = {
      {"unknown model",
       {.model = R"({"type":"Unigram","vocab":[]})"},
       {"'model'", "Unigram", "not supported"}},
      {"model without a type", {.model = R"({"vocab":{"a":0}})"}, {"model.type"}},
      {"no model", {.model = "null"}, {"model"}},
      {"vocabulary is a list", {.model = word_piece(R"(["a"])")}, {"model.vocab", "object"}},
      {"empty vocabulary", {.model = word_piece("{}")}, {"model.vocab", "empty"}},
      {"two tokens of one id",
       {.model = word_piece(R"({"[UNK]":0,"a":1,"b":1})")},
       {"model.vocab", "id 1", "'a'", "'b'"}},
      {"a token twice", {.model = word_piece(R"({"[UNK]":0,"a":1,"a":2})")}, {"twice"}},
      {"negative id", {.model = word_piece(R"({"[UNK]":0,"a":-1})")}, {"model.vocab"}},
      {"fractional id", {.model = word_piece(R"({"[UNK]":0,"a":1.5})")}, {"model.vocab"}},
      {"huge id", {.model = word_piece(R"({"[UNK]":0,"a":4294967295})")}, {"model.vocab", "4294967295"}},
      {"unknown token missing",
       {.model = word_piece(R"({"a":1})")},
       {"model.unk_token", "[UNK]", "not in the vocabulary"}},
      {"no unknown token", {.model = word_piece(R"({"a":1})", "")}, {"unk_token", "missing"}},
      {"merges missing", {.model = R"({"type":"BPE","vocab":{"a":0}})"}, {"merges", "missing"}},
      {"merge of three", {.model = byte_pair(R"("merges":["a b ab"])")}, {"model.merges", "two tokens"}},
      {"merge of one", {.model = byte_pair(R"("merges":["ab"])")}, {"model.merges", "two tokens"}},
      {"merge list of three", {.model = byte_pair(R"("merges":[["a","b","ab"]])")}, {"model.merges", "pair"}},
      {"merge of a stranger", {.model = byte_pair(R"("merges":["a c"])")}, {"model.merges", "'c'"}},
      {"merge into a stranger", {.model = byte_pair(R"("merges":["b a"])")}, {"model.merges", "'ba'"}},
      {"dropout", {.model = byte_pair(R"("merges":[],"dropout":0.1)")}, {"model.dropout", "random"}},
      {"byte fallback",
       {.model = byte_pair(R"("merges":[],"byte_fallback":true)")},
       {"model.byte_fallback", "not supported"}},
      {"byte-pair unknown missing",
       {.model = byte_pair(R"("merges":[],"unk_token":"<unk>")")},
       {"model.unk_token", "<unk>"}},
  };
  for (const auto& c : cases) {
    const std::string message = refusal(c.parts.json());
    for (const auto& part : c.says) EXPECT_THAT(message, HasSubstr(part)) << c.what;
  }
}

TEST(TokenizerRejects, UnsupportedAndDamagedParts) {
  const std::vector<RejectCase> cases = {
      {"version", {.head = R"("version":"2.0",)"}, {"version", "2.0"}},
      {"normalizer type",
       {.normalizer = R"({"type":"Precompiled","precompiled_charsmap":""})"},
       {"normalizer", "Precompiled", "not supported"}},
      {"inside a sequence",
       {.normalizer = R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Nmt"}]})"},
       {"normalizer.normalizers", "Nmt"}},
      {"no type", {.normalizer = "{}"}, {"normalizer.type"}},
      {"normalizer is a string", {.normalizer = "\"NFC\""}, {"normalizer"}},
      {"half a BERT normalizer",
       {.normalizer = R"({"type":"BertNormalizer","clean_text":true})"},
       {"normalizer.handle_chinese_chars"}},
      {"replacing by expression",
       {.normalizer = R"({"type":"Replace","pattern":{"Regex":"(a+)+$"},"content":""})"},
       {"normalizer.pattern", "regular expression"}},
      {"replacing nothing",
       {.normalizer = R"({"type":"Replace","pattern":{"String":""},"content":"x"})"},
       {"normalizer.pattern", "empty"}},
      {"a replacement that fills the memory",
       {.normalizer =
            R"({"type":"Replace","pattern":{"String":"a"},"content":")" + std::string(101, 'x') + "\"}"},
       {"normalizer", "100 times as long"}},
      {"replacements that multiply",
       {.normalizer = R"({"type":"Sequence","normalizers":[)" + join_copies(kDoubling, 7) + "]}"},
       {"normalizer.normalizers[6]", "100 times as long"}},
      {"pre-tokenizer type",
       {.pre_tokenizer = R"({"type":"Metaspace","replacement":"_"})"},
       {"pre_tokenizer", "Metaspace", "not supported"}},
      {"expression",
       {.pre_tokenizer =
            R"({"type":"Split","pattern":{"Regex":"(a+)+$"},"behavior":"Isolated","invert":false})"},
       {"pre_tokenizer.pattern", "Split", "not supported"}},
      {"behavior",
       {.pre_tokenizer = R"({"type":"Split","pattern":{"String":"a"},"behavior":"Exploded","invert":false})"},
       {"pre_tokenizer.behavior"}},
      {"empty literal",
       {.pre_tokenizer = R"({"type":"Split","pattern":{"String":""},"behavior":"Removed","invert":false})"},
       {"pre_tokenizer.pattern", "empty"}},
      {"post-processor type",
       {.post_processor = R"({"type":"Novel"})"},
       {"post_processor", "Novel", "not supported"}},
      {"two that add",
       {.post_processor =
            R"({"type":"Sequence","processors":[{"type":"BertProcessing","sep":["a",1],"cls":["b",2]},{"type":"BertProcessing","sep":["a",1],"cls":["b",2]}]})"},
       {"post_processor.processors", "second"}},
      {"id that does not exist",
       {.post_processor = R"({"type":"BertProcessing","sep":["a",1],"cls":["x",9]})"},
       {"post_processor", "id 9"}},
      {"pair of one",
       {.post_processor = R"({"type":"BertProcessing","sep":["a"],"cls":["x",1]})"},
       {"post_processor", "pair"}},
      {"template without text",
       {.post_processor = R"({"type":"TemplateProcessing","single":[],"pair":[],"special_tokens":{}})"},
       {"post_processor.single", "without the text"}},
      {"template with text B",
       {.post_processor =
            R"({"type":"TemplateProcessing","single":[{"Sequence":{"id":"B","type_id":0}}],"pair":[],"special_tokens":{}})"},
       {"post_processor.single", "not A"}},
      {"template with a stranger",
       {.post_processor =
            R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{}})"},
       {"post_processor.special_tokens", "[CLS]"}},
      {"added token of another id",
       {.added = "[" + added("a", 2) + "]"},
       {"added_tokens", "'a'", "id 2", "says 1"}},
      {"added token with a gap",
       {.added = "[" + added("<x>", 7) + "]"},
       {"added_tokens", "'<x>'", "id 7", "is 3"}},
      {"added token twice",
       {.added = "[" + added("<x>", 3) + "," + added("<x>", 3) + "]"},
       {"added_tokens", "'<x>'", "second time"}},
      {"added token without flags",
       {.added = "[" + added("<x>", 3, R"("special":true)") + "]"},
       {"added_tokens", "single_word"}},
      {"added tokens are an object", {.added = "{}"}, {"added_tokens"}},
  };
  for (const auto& c : cases) {
    const std::string message = refusal(c.parts.json());
    for (const auto& part : c.says) EXPECT_THAT(message, HasSubstr(part)) << c.what;
  }
}

struct FolderCase {
  const char* what;
  std::vector<std::pair<std::string, std::string>> files;
  std::vector<std::string> says;
};

void check_folders(std::span<const FolderCase> cases) {
  for (const auto& c : cases) {
    const TemporaryFolder folder;
    for (const auto& [name, content] : c.files) folder.write(name, content);
    try {
      Tokenizer::load(folder.path());
      ADD_FAILURE() << c.what << " was accepted";
    } catch (const core::DataError& error) {
      for (const auto& part : c.says) EXPECT_THAT(error.what(), HasSubstr(part)) << c.what;
    }
  }
}

TEST(TokenizerRejects, Folders) {
  const std::string bert = "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n";
  const FolderCase cases[] = {
      {"nothing", {}, {"neither tokenizer.json nor vocab.txt"}},
      {"empty file", {{"tokenizer.json", ""}}, {"tokenizer.json"}},
      {"an array", {{"tokenizer.json", "[]"}}, {"tokenizer.json"}},
      {"bytes", {{"tokenizer.json", std::string("\x80\x00\xff", 3)}}, {"tokenizer.json"}},
      {"no [CLS]", {{"vocab.txt", "[UNK]\n[SEP]\n"}}, {"vocab.txt", "[CLS]"}},
      {"empty vocabulary", {{"vocab.txt", ""}}, {"vocab.txt", "empty"}},
      {"empty line", {{"vocab.txt", "[UNK]\n\n[CLS]\n"}}, {"vocab.txt:2", "empty line"}},
      {"a token twice", {{"vocab.txt", bert + "a\n"}}, {"vocab.txt:6", "twice"}},
      {"another class",
       {{"vocab.txt", bert}, {"tokenizer_config.json", R"({"tokenizer_class":"BertJapaneseTokenizer"})"}},
       {"tokenizer_class", "BertJapaneseTokenizer"}},
      {"no basic splitting",
       {{"vocab.txt", bert}, {"tokenizer_config.json", R"({"do_basic_tokenize":false})"}},
       {"do_basic_tokenize"}},
  };
  check_folders(cases);
}

TEST(TokenizerRejects, FoldersOfClip) {
  const std::string vocabulary = R"({"a":0,"b":1,"ab":2,"<|startoftext|>":3,"<|endoftext|>":4})";
  const std::string merges = "#version: 0.2\na b\n";
  const auto files = [&](const std::string& name, const std::string& content) {
    std::vector<std::pair<std::string, std::string>> out = {{"vocab.json", vocabulary},
                                                            {"merges.txt", merges}};
    out.emplace_back(name, content);
    return out;
  };
  const FolderCase cases[] = {
      {"no merges", {{"vocab.json", vocabulary}}, {"vocab.json with merges.txt"}},
      {"not a vocabulary", {{"vocab.json", "[]"}, {"merges.txt", merges}}, {"vocab.json", "object"}},
      {"no end token",
       {{"vocab.json", R"({"a":0,"<|startoftext|>":1})"}, {"merges.txt", ""}},
       {"vocab.json", "<|endoftext|>", "eos_token"}},
      {"merge of one", files("merges.txt", "#version: 0.2\na b\nab\n"), {"merges.txt:3", "two tokens"}},
      {"merge of a stranger", files("merges.txt", "a c\n"), {"merges.txt:1", "'c'", "not in the vocabulary"}},
      {"merge into a stranger", files("merges.txt", "b a\n"), {"merges.txt:1", "'ba'"}},
      {"another class",
       files("tokenizer_config.json", R"({"tokenizer_class":"GPT2Tokenizer"})"),
       {"tokenizer_class", "GPT2Tokenizer", "CLIPTokenizer"}},
      {"text of special tokens",
       files("tokenizer_config.json", R"({"split_special_tokens":true})"),
       {"split_special_tokens"}},
      {"no begin", files("tokenizer_config.json", R"({"add_bos_token":false})"), {"add_bos_token"}},
      {"a token's id",
       files("tokenizer_config.json", R"({"added_tokens_decoder":{"1":{"content":"a"}}})"),
       {"added_tokens_decoder", "'a'", "id 1", "says 0"}},
      {"a gap", files("added_tokens.json", R"({"<x>":9})"), {"added_tokens.json", "'<x>'", "id 9", "is 5"}},
      {"no id",
       files("tokenizer_config.json", R"({"added_tokens_decoder":{"x":{"content":"a"}}})"),
       {"added_tokens_decoder", "'x'"}},
      {"an empty token", files("special_tokens_map.json", R"({"pad_token":""})"), {"pad_token", "empty"}},
      {"a token without text",
       files("special_tokens_map.json", R"({"pad_token":{}})"),
       {"content", "missing"}},
      {"a damaged map", files("special_tokens_map.json", "{"), {"special_tokens_map.json"}},
      {"a map that is a list", files("special_tokens_map.json", "[]"), {"special_tokens_map.json", "object"}},
  };
  check_folders(cases);
  const TemporaryFolder folder;
  for (const auto& [name, content] : files("special_tokens_map.json", R"({"pad_token":"<pad>"})"))
    folder.write(name, content);
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  EXPECT_EQ(tokenizer.special_ids().pad, 5u);  // added behind the vocabulary
  EXPECT_EQ(tokenizer.vocab_size(), 6u);
  EXPECT_EQ(ids_of(tokenizer, "<pad>"), (std::vector<std::uint32_t>{3, 5, 4}));
}

TEST(TokenizerRejects, TheVocabularyOfBertAlone) {
  const std::string bert = "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n";
  const TemporaryFolder folder;
  folder.write("vocab.txt", bert);
  EXPECT_EQ(ids_of(Tokenizer::load(folder.path()), "A b"), (std::vector<std::uint32_t>{2, 4, 1, 3}));
}

}  // namespace
}  // namespace muster::text
