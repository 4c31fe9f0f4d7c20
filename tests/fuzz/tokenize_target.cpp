// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "fuzz/encoding_checks.h"
#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "text/splitters.h"

namespace muster::fuzz {
namespace {

struct Named {
  const char* name;
  bool keeps_every_byte;  ///< byte-level pieces over the whole alphabet, without normalizer: the text can be
                          ///< had back
};
constexpr Named kTokenizers[] = {
    {"bert_uncased", false},
    {"bert_vocabulary_cased", false},
    {"roberta", true},
    {"gpt2_prefix_space", false},
    {"added_tokens", false},
    {"bpe_suffix_unknown", false},
    {"bpe_prefix_unknown", false},
    {"word_piece_short_words", false},
    {"probe_edits", false},
    {"probe_nfkc_spaces", false},
    {"probe_punctuation_previous", false},
    {"probe_split_invert_next", false},
    {"probe_strip_right", false},
    {"probe_bert_lower_accents", false},
    {"clip_vocabulary", false},
    {"clip_vocabulary_added", false},
    {"clip_json_4", false},
};

/// Loaded once and kept for the life of the process.
const std::vector<text::Tokenizer>& tokenizers() {
  static const auto* const all = [] {
    auto* loaded = new std::vector<text::Tokenizer>;
    for (const auto& [name, lossless] : kTokenizers)
      loaded->push_back(text::Tokenizer::load(std::string(MUSTER_FUZZ_TOKENIZERS "/") + name));
    return loaded;
  }();
  return *all;
}

/// The ids' tokens are the text, spelled in the byte alphabet.
void check_bytes_are_kept(const text::Tokenizer& tokenizer, std::string_view text) {
  text::Encoding encoding;
  tokenizer.encode(text, UINT32_MAX, encoding);
  std::string tokens;
  for (const std::uint32_t id : encoding.ids) tokens += tokenizer.id_to_token(id);
  text::PreTokenizerScratch scratch;
  scratch.pieces.push_back({0, text.size()});
  const std::string_view spelled = text::map_bytes(text, scratch);
  expect(tokens == "<s>" + std::string(scratch.pieces.front().of(spelled)) + "</s>",
         "byte-level tokens are the text");
}

}  // namespace

void tokenize(std::string_view bytes) {
  Input input(bytes);
  const std::uint8_t which = input.byte() % std::size(kTokenizers), max_length = input.byte();
  const auto text = input.rest();
  const auto& tokenizer = tokenizers()[which];
  check_encoding(tokenizer, text,
                 max_length);  // bytes that are no UTF-8 are beyond the contract, but must do no harm
  const bool names_a_token = text.find('<') != std::string_view::npos;
  if (kTokenizers[which].keeps_every_byte && !names_a_token && is_utf8(text))
    check_bytes_are_kept(tokenizer, text);
}

}  // namespace muster::fuzz
