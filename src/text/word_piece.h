// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "text/model.h"

namespace muster::text {

struct WordPieceOptions {
  std::string unknown = "[UNK]";
  std::string continuing_prefix = "##";
  std::uint64_t max_chars_per_word = 100;
};

/// Greedy longest match from the left (BERT). A word with a rest that no token matches is one unknown token.
class WordPiece final : public Model {
 public:
  /// `unknown_id` is the id of options.unknown in the vocabulary.
  WordPiece(Vocabulary vocabulary, const WordPieceOptions& options, std::uint32_t unknown_id);
  void tokenize(std::string_view word, ModelScratch& scratch, std::vector<std::uint32_t>& ids) const override;

 private:
  std::uint64_t max_chars_per_word_;
  std::uint32_t unknown_id_;
  TokenMap continuing_;  ///< the tokens that carry the prefix, without it
};

std::unique_ptr<Model> word_piece_from_json(const formats::JsonValue& section, Vocabulary vocabulary);

}  // namespace muster::text
