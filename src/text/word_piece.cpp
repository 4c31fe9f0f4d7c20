// SPDX-License-Identifier: Apache-2.0
#include "text/word_piece.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/utf8.h"

namespace muster::text {

WordPiece::WordPiece(Vocabulary vocabulary, const WordPieceOptions& options, std::uint32_t unknown_id)
    : Model(std::move(vocabulary)), max_chars_per_word_(options.max_chars_per_word), unknown_id_(unknown_id) {
  const TokenMap& tokens = this->vocabulary().tokens();
  for (const auto& entry : tokens.entries()) {
    const std::string_view token = tokens.token(entry);
    if (token.starts_with(options.continuing_prefix)) {
      continuing_.insert(token.substr(options.continuing_prefix.size()), entry.id);
    }
  }
}

void WordPiece::tokenize(std::string_view word, ModelScratch&, std::vector<std::uint32_t>& ids) const {
  const std::size_t first = ids.size();
  const auto give_up = [&] {
    ids.resize(first);
    ids.push_back(unknown_id_);
  };
  if (word.size() > max_chars_per_word_ && count_chars(word) > max_chars_per_word_) return give_up();
  for (std::size_t begin = 0; begin < word.size();) {
    const TokenMap& tokens = begin == 0 ? vocabulary().tokens() : continuing_;
    std::size_t end = std::min(word.size(), begin + tokens.longest());
    while (end > begin && end < word.size() && is_utf8_continuation(word[end])) --end;
    std::optional<std::uint32_t> id;
    while (end > begin) {
      id = tokens.find(word.substr(begin, end - begin));
      if (id) break;
      do --end;
      while (end > begin && is_utf8_continuation(word[end]));
    }
    if (!id) return give_up();
    ids.push_back(*id);
    begin = end;
  }
}

std::unique_ptr<Model> word_piece_from_json(const formats::JsonValue& section, Vocabulary vocabulary) {
  WordPieceOptions options;
  const auto unknown = section.at("unk_token");
  options.unknown = unknown.as<std::string>();
  options.continuing_prefix = section.get<std::string>("continuing_subword_prefix");
  options.max_chars_per_word = section.get<std::uint64_t>("max_input_chars_per_word");
  const auto unknown_id = vocabulary.find(options.unknown);
  if (!unknown_id) unknown.fail(fmt::format("is '{}', which is not in the vocabulary", options.unknown));
  return std::make_unique<WordPiece>(std::move(vocabulary), options, *unknown_id);
}

}  // namespace muster::text
