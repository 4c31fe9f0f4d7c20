// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <string>

namespace muster::text {

/// What a character is to the reference library, whose parts each carry the tables of another Unicode
/// version: categories for cleaning, punctuation and accents 8.0, normalization 9.0, regular
/// expressions 16.0, the Rust standard library 17.0. Token ids depend on it, so characters younger than a
/// part's version count as unassigned there whatever ICU knows.
enum CharClass : std::uint16_t {
  kWhitespace = 1 << 0,   ///< White_Space, also \s
  kPunctuation = 1 << 1,  ///< ASCII punctuation or P* (8.0)
  kControl = 1 << 2,      ///< removed by BERT's text cleaning: Cc, Cf, Co (8.0), NUL and U+FFFD, not \t \n \r
  kNonspacing = 1 << 3,   ///< Mn (8.0): BERT's accents
  kMark = 1 << 4,         ///< M* (9.0): the accents of StripAccents
  kNumeric = 1 << 5,      ///< N* (17.0): Rust's char::is_numeric
  kWord = 1 << 6,         ///< \w (16.0)
  kLetter = 1 << 7,       ///< \p{L} (16.0)
  kNumber = 1 << 8,       ///< \p{N} (16.0)
  kChinese = 1 << 9,      ///< the CJK blocks that BERT puts spaces around
  kUpper = 1 << 10,       ///< its lower case is another character
  kDecomposes = 1 << 11,  ///< NFD moves or replaces it (9.0)
  kDecomposesK = 1 << 12,  ///< NFKD moves or replaces it (9.0)
};

/// Classes of all characters; the basic plane is tabulated once per process, the rest is asked of ICU.
class CharTable {
 public:
  CharTable();
  std::uint16_t classes(char32_t c) const { return c < kTabulated ? table_[c] : compute(c); }
  bool is(char32_t c, unsigned mask) const { return (classes(c) & mask) != 0; }

 private:
  static constexpr char32_t kTabulated = 0x10000;
  static std::uint16_t compute(char32_t c);
  std::array<std::uint16_t, kTabulated> table_;
};
const CharTable& char_table();

/// Appends the lower case of one character, without context (a final sigma is a plain sigma).
void append_lower(char32_t c, std::u32string& out);

enum class Decomposition { kCanonical, kCompatibility };
/// NFD or NFKD.
void decompose(const std::u32string& text, Decomposition form, std::u32string& out);
/// Turns NFD into NFC (NFKD into NFKC) in place.
void compose(std::u32string& text);

}  // namespace muster::text
