// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "muster/formats/json.h"

namespace muster::text {

/// A word: [begin, end) of the text that is being split.
struct Piece {
  std::size_t begin, end;
  std::string_view of(std::string_view text) const { return text.substr(begin, end - begin); }
};

/// A stretch that the pattern of a splitter matched, or that lies between two matches.
struct Match {
  std::size_t begin, end;
  bool is_match;
};

struct PreTokenizerScratch {
  std::string text, spare_text;
  std::vector<Piece> pieces, spare;
  std::vector<Match> matches;
};

struct Words {
  std::string_view text;
  const std::vector<Piece>& pieces;
};

/// The "pre_tokenizer" section: cuts a normalized text into the words that the model sees. Every pattern is
/// code of ours.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  static PreTokenizer from_json(const formats::JsonValue& section);  ///< the section may be null
  static PreTokenizer words_and_punctuation();

  /// The result refers to `text` and `scratch`.
  Words split(std::string_view text, PreTokenizerScratch& scratch) const;

 private:
  enum class Kind : std::uint8_t {
    kBert,
    kCharClass,
    kWordRuns,
    kGpt2,
    kClip,
    kClipWithTokens,
    kLiteral,
    kPrefixSpace,
    kByteLevel
  };
  enum class Behavior : std::uint8_t {
    kRemoved,
    kIsolated,
    kMergedWithPrevious,
    kMergedWithNext,
    kContiguous
  };
  enum class Sense : std::uint8_t { kMatchesAreDelimiters, kMatchesAreWords };
  struct Step {
    Kind kind;
    Behavior behavior = Behavior::kIsolated;
    Sense sense = Sense::kMatchesAreDelimiters;
    unsigned classes = 0;  ///< kCharClass
    std::string literal;   ///< kLiteral
  };

  void add(const formats::JsonValue& section);
  void add_split(const formats::JsonValue& section);
  static Behavior behavior_from(const formats::JsonValue& name);
  static std::string_view run(const Step& step, std::string_view text, PreTokenizerScratch& scratch);
  static void find_matches(const Step& step, std::string_view text, Piece piece, std::vector<Match>& out);
  static void emit(Behavior behavior, std::vector<Match>& matches, std::vector<Piece>& out);

  std::vector<Step> steps_;
};

}  // namespace muster::text
