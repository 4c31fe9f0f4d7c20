// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "muster/formats/json.h"
#include "text/normalizer.h"
#include "text/token_map.h"

namespace muster::text {

enum class MatchOn : std::uint8_t { kRawText, kNormalizedText };

struct AddedToken {
  std::string content;
  std::uint32_t id = 0;
  bool single_word = false;  ///< only where no word character touches it
  bool strip_left = false;   ///< takes the white space before it along
  bool strip_right = false;
  MatchOn match_on = MatchOn::kRawText;
};

/// A stretch of a text: an added token, or text for the rest of the pipeline.
struct Segment {
  std::size_t begin, end;
  std::optional<std::uint32_t> id;
};

/// Finds the leftmost of the longest of some strings, over and over.
class TokenMatcher {
 public:
  /// False when the pattern is there already. `token` is an index of the caller's, a pattern is not empty.
  bool add(std::string_view pattern, std::uint32_t token);
  bool empty() const { return patterns_.size() == 0; }
  struct Found {
    std::size_t begin, end;
    std::uint32_t token;
  };
  std::optional<Found> next(std::string_view text, std::size_t from) const;

 private:
  TokenMap patterns_;
  std::array<std::vector<std::uint32_t>, 256>
      lengths_;  ///< of the patterns with this first byte, longest first
};

/// The "added_tokens" section: strings that get their id before the text is normalized or split, or right
/// after normalizing.
class AddedTokens {
 public:
  /// Contents that the vocabulary has get its ids, the others the ids after it; DataError when the file says
  /// otherwise.
  static AddedTokens from_json(const formats::JsonValue& section, const Vocabulary& vocabulary,
                               const Normalizer& normalizer);
  void add(AddedToken token, const Normalizer& normalizer);

  /// Covers the text with segments; none are empty.
  void split(std::string_view text, MatchOn what, std::vector<Segment>& out) const;
  std::optional<std::string_view> token(std::uint32_t id) const;
  std::optional<std::uint32_t> find(std::string_view content) const;
  /// One past the largest id, 0 without tokens.
  std::uint32_t end_id() const;

 private:
  void append(const TokenMatcher::Found& found, std::string_view text, std::size_t& done,
              std::vector<Segment>& out) const;

  std::vector<AddedToken> tokens_;
  TokenMatcher raw_, normalized_;
};

}  // namespace muster::text
