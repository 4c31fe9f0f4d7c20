// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace muster::text {

struct Encoding {
  std::vector<std::uint32_t> ids;  ///< with special tokens, truncated
  std::uint32_t full_length = 0;   ///< with special tokens, before truncation
  bool truncated() const { return full_length > ids.size(); }
};

/// A Hugging Face tokenizer.json: normalizer, pre-tokenizer, model (WordPiece, byte-level BPE),
/// post-processor and added tokens. The truncation and padding sections of the file are ignored: the caller's
/// max_length rules and nothing is padded (as sentence-transformers does). Thread-safe: encode() is const and
/// takes its scratch from a pool.
class Tokenizer {
 public:
  /// `folder` holds tokenizer.json, or vocab.txt and perhaps tokenizer_config.json of a BERT model. DataError
  /// when they are missing, damaged, or use a component that is not supported (named). A pattern from a file
  /// is never run as a regular expression of its own.
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
  std::uint32_t special_tokens_count() const;       ///< what the post-processor adds to a single text
  std::string id_to_token(std::uint32_t id) const;  ///< DataError when there is none

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::text
