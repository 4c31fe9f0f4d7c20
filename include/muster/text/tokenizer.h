// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace muster::text {

struct Encoding {
  std::vector<std::uint32_t> ids;  ///< with special tokens, truncated
  std::uint32_t full_length = 0;   ///< with special tokens, before truncation
  bool truncated() const { return full_length > ids.size(); }
};

/// Ids for callers that cut and fill sequences themselves; nothing where the tokenizer has no such token.
struct SpecialIds {
  std::optional<std::uint32_t> begin;  ///< the first in front of every text: [CLS], <|startoftext|>
  std::optional<std::uint32_t> end;    ///< the first behind it: [SEP], <|endoftext|>
  std::optional<std::uint32_t> pad;
};

/// A Hugging Face tokenizer.json: normalizer, pre-tokenizer, model (WordPiece, byte-level BPE),
/// post-processor and added tokens. The truncation and padding sections of the file are ignored: the caller's
/// max_length rules and nothing is padded (as sentence-transformers does). Thread-safe: encode() is const and
/// takes its scratch from a pool.
class Tokenizer {
 public:
  /// `folder` holds tokenizer.json, or vocab.txt of a BERT model, or vocab.json and merges.txt of a CLIP
  /// model, and perhaps tokenizer_config.json and special_tokens_map.json, which name special tokens.
  /// DataError when they are missing, damaged, or use a component that is not supported (named). A pattern
  /// from a file is never run as a regular expression of its own.
  static Tokenizer load(const std::string& folder);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// `text` is valid UTF-8. At most `max_length` ids, special tokens included (they are always kept);
  /// the text's own tokens are cut on the right. ConfigError when `max_length` has no room for the special
  /// tokens.
  void encode(std::string_view text, std::uint32_t max_length, Encoding& out) const;
  /// One past the largest id that encode can give, added tokens included.
  std::uint32_t vocab_size() const;
  std::uint32_t special_tokens_count() const;  ///< what the post-processor adds to a single text
  SpecialIds special_ids() const;
  std::string id_to_token(std::uint32_t id) const;  ///< DataError when there is none

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::text
