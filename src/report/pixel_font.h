// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace muster::report {

/// A small fixed-width font of our own: ASCII and Latin-1 in cells of 6 x 13 pixels, so that captions need no
/// font of the system's. Row 0 is the top; bit 4 is the leftmost of a glyph's five columns.
inline constexpr std::uint32_t kCellWidth = 6, kCellHeight = 13;
using Glyph = std::array<std::uint8_t, kCellHeight>;

/// What a text becomes on a line: a glyph, or, for characters that the font lacks, a box with the code point
/// in hexadecimal, which is as wide as its digits need.
struct Letter {
  char32_t code = 0;
  const Glyph* glyph = nullptr;  ///< null: a box
  std::uint32_t width = kCellWidth;
};

/// Valid UTF-8 as letters, in the order of the text. Control characters are spaces; marks of direction,
/// joiners and variation selectors take no place.
std::vector<Letter> letters_of(std::string_view utf8);

/// 3 x 5 pixels of a hexadecimal digit, bit 2 the leftmost column.
std::array<std::uint8_t, 5> small_digit(std::uint32_t digit);

}  // namespace muster::report
