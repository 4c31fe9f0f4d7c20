// SPDX-License-Identifier: Apache-2.0
#include "report/pixel_font.h"

#include <algorithm>
#include <string>

namespace muster::report {
namespace {

// Rows of a cell: two for accents, capitals from row 2, small letters from row 4, the base line below row 8.
constexpr std::size_t kCapitalTop = 2, kAccentRows = 2, kSmallAccentTop = 1;

/// A glyph as it is drawn: rows from row 2 down, cut where nothing follows, '#' is ink.
struct Drawn {
  char32_t code;
  const char* rows;
};

// clang-format off: a glyph a line
constexpr Drawn kDrawn[] = {
    {'!', "  #/  #/  #/  #/  #//  #"},
    {'"', " # #/ # #/ # #"},
    {'#', " # #/ # #/#####/ # #/#####/ # #/ # #"},
    {'$', "  #/ ####/# #/ ###/  # #/####/  #"},
    {'%', "##/##  #/   #/  #/ #/#  ##/   ##"},
    {'&', " ##/#  #/# #/ #/# # #/#  #/ ## #"},
    {'\'', "  #/  #/ #"},
    {'(', "   #/  #/ #/ #/ #/  #/   #"},
    {')', " #/  #/   #/   #/   #/  #/ #"},
    {'*', "/  #/# # #/ ###/# # #/  #"},
    {'+', "/  #/  #/#####/  #/  #"},
    {',', "/////  #/  #/ #"},
    {'-', "///#####"},
    {'.', "/////  #/  #"},
    {'/', "/    #/   #/  #/ #/#"},
    {'0', " ###/#   #/#  ##/# # #/##  #/#   #/ ###"},
    {'1', "  #/ ##/  #/  #/  #/  #/ ###"},
    {'2', " ###/#   #/    #/   #/  #/ #/#####"},
    {'3', "#####/   #/  #/   #/    #/#   #/ ###"},
    {'4', "   #/  ##/ # #/#  #/#####/   #/   #"},
    {'5', "#####/#/####/    #/    #/#   #/ ###"},
    {'6', "  ##/ #/#/####/#   #/#   #/ ###"},
    {'7', "#####/    #/   #/  #/ #/ #/ #"},
    {'8', " ###/#   #/#   #/ ###/#   #/#   #/ ###"},
    {'9', " ###/#   #/#   #/ ####/    #/   #/ ##"},
    {':', "/  #/  #///  #/  #"},
    {';', "/  #/  #///  #/  #/ #"},
    {'<', "   #/  #/ #/#/ #/  #/   #"},
    {'=', "//#####//#####"},
    {'>', "#/ #/  #/   #/  #/ #/#"},
    {'?', " ###/#   #/    #/   #/  #//  #"},
    {'@', " ###/#   #/    #/ ## #/# # #/# # #/ ###"},
    {'A', " ###/#   #/#   #/#####/#   #/#   #/#   #"},
    {'B', "####/#   #/#   #/####/#   #/#   #/####"},
    {'C', " ###/#   #/#/#/#/#   #/ ###"},
    {'D', "###/#  #/#   #/#   #/#   #/#  #/###"},
    {'E', "#####/#/#/####/#/#/#####"},
    {'F', "#####/#/#/####/#/#/#"},
    {'G', " ###/#   #/#/# ###/#   #/#   #/ ####"},
    {'H', "#   #/#   #/#   #/#####/#   #/#   #/#   #"},
    {'I', " ###/  #/  #/  #/  #/  #/ ###"},
    {'J', "  ###/   #/   #/   #/   #/#  #/ ##"},
    {'K', "#   #/#  #/# #/##/# #/#  #/#   #"},
    {'L', "#/#/#/#/#/#/#####"},
    {'M', "#   #/## ##/# # #/# # #/#   #/#   #/#   #"},
    {'N', "#   #/#   #/##  #/# # #/#  ##/#   #/#   #"},
    {'O', " ###/#   #/#   #/#   #/#   #/#   #/ ###"},
    {'P', "####/#   #/#   #/####/#/#/#"},
    {'Q', " ###/#   #/#   #/#   #/# # #/#  #/ ## #"},
    {'R', "####/#   #/#   #/####/# #/#  #/#   #"},
    {'S', " ####/#/#/ ###/    #/    #/####"},
    {'T', "#####/  #/  #/  #/  #/  #/  #"},
    {'U', "#   #/#   #/#   #/#   #/#   #/#   #/ ###"},
    {'V', "#   #/#   #/#   #/#   #/#   #/ # #/  #"},
    {'W', "#   #/#   #/#   #/# # #/# # #/# # #/ # #"},
    {'X', "#   #/#   #/ # #/  #/ # #/#   #/#   #"},
    {'Y', "#   #/#   #/#   #/ # #/  #/  #/  #"},
    {'Z', "#####/    #/   #/  #/ #/#/#####"},
    {'[', " ###/ #/ #/ #/ #/ #/ ###"},
    {'\\', "/#/ #/  #/   #/    #"},
    {']', " ###/   #/   #/   #/   #/   #/ ###"},
    {'^', "  #/ # #/#   #"},
    {'_', "///////#####"},
    {'`', " #/  #/   #"},
    {'a', "// ###/    #/ ####/#   #/ ####"},
    {'b', "#/#/# ##/##  #/#   #/#   #/####"},
    {'c', "// ###/#/#/#   #/ ###"},
    {'d', "    #/    #/ ## #/#  ##/#   #/#   #/ ####"},
    {'e', "// ###/#   #/#####/#/ ###"},
    {'f', "  ##/ #  #/ #/###/ #/ #/ #"},
    {'g', "// ####/#   #/#   #/#   #/ ####/    #/ ###"},
    {'h', "#/#/# ##/##  #/#   #/#   #/#   #"},
    {'i', "  #// ##/  #/  #/  #/ ###"},
    {'j', "   #//  ##/   #/   #/   #/   #/#  #/ ##"},
    {'k', "#/#/#  #/# #/##/# #/#  #"},
    {'l', " ##/  #/  #/  #/  #/  #/ ###"},
    {'m', "//## #/# # #/# # #/# # #/#   #"},
    {'n', "//# ##/##  #/#   #/#   #/#   #"},
    {'o', "// ###/#   #/#   #/#   #/ ###"},
    {'p', "//####/#   #/#   #/#   #/####/#/#"},
    {'q', "// ####/#   #/#   #/#   #/ ####/    #/    #"},
    {'r', "//# ##/##  #/#/#/#"},
    {'s', "// ####/#/ ###/    #/####"},
    {'t', " #/ #/###/ #/ #/ #  #/  ##"},
    {'u', "//#   #/#   #/#   #/#  ##/ ## #"},
    {'v', "//#   #/#   #/#   #/ # #/  #"},
    {'w', "//#   #/#   #/# # #/# # #/ # #"},
    {'x', "//#   #/ # #/  #/ # #/#   #"},
    {'y', "//#   #/#   #/#   #/#   #/ ####/    #/ ###"},
    {'z', "//#####/   #/  #/ #/#####"},
    {'{', "   #/  #/  #/ #/  #/  #/   #"},
    {'|', "  #/  #/  #/  #/  #/  #/  #"},
    {'}', " #/  #/  #/   #/  #/  #/ #"},
    {'~', "/// #/# # #/   #"},
    {0xA1, "  #//  #/  #/  #/  #/  #"},
    {0xA2, "/  #/ ####/# #/# #/ ####/  #"},
    {0xA3, "  ##/ #  #/ #/###/ #/ #/#####"},
    {0xA4, "/#   #/ ###/ # #/ ###/#   #"},
    {0xA5, "#   #/ # #/#####/  #/#####/  #/  #"},
    {0xA6, "  #/  #/  #//  #/  #/  #"},
    {0xA7, " ###/#/ ###/#   #/ ###/    #/ ###"},
    {0xA8, " # #"},
    {0xA9, " ###/#   #/# ###/# #/# ###/#   #/ ###"},
    {0xAA, " ##/# #/ ###//###"},
    {0xAB, "/  # #/ # #/# #/ # #/  # #"},
    {0xAC, "///#####/    #"},
    {0xAE, " ###/#   #/### #/#  ##/### #/#   #/ ###"},
    {0xAF, "#####"},
    {0xB0, " ##/#  #/#  #/ ##"},
    {0xB1, "  #/  #/#####/  #/  #//#####"},
    {0xB2, "##/  #/ #/#/###"},
    {0xB3, "##/  #/##/  #/##"},
    {0xB4, "   #/  #"},
    {0xB5, "//#   #/#   #/#   #/##  #/# ## /#"},
    {0xB6, " ####/### #/### #/ ## #/  # #/  # #/  # #"},
    {0xB7, "///  #"},
    {0xB8, "///////  #/ ##"},
    {0xB9, " #/##/ #/ #/###"},
    {0xBA, " ##/#  #/ ##//####"},
    {0xBB, "/# #/ # #/  # #/ # #/# #"},
    {0xBC, "#/#  #/# #/ #  #/# # #/ ####/   #"},
    {0xBD, "#/#  #/# #/ ###/#   #/   #/  ###"},
    {0xBE, "##/ ## #/## #/  #  #/ # # #/# ####/    #"},
    {0xBF, "  #//  #/ #/#/#   #/ ###"},
    {0xC6, " ####/# #/# #/####/# #/# #/# ###"},
    {0xD0, "###/#  #/#   #/###  #/#   #/#  #/###"},
    {0xD7, "/#   #/ # #/  #/ # #/#   #"},
    {0xD8, " ## #/#  #/# # #/# # #/# # #/ #  #/# ##"},
    {0xDE, "#/####/#   #/#   #/####/#/#"},
    {0xDF, " ##/#  #/#  #/# #/#  #/#  #/# #"},
    {0xE6, "// ####/  # #/ ####/# #/ # ##"},
    {0xF0, "  # #/   #/  # #/ ####/#   #/#   #/ ###"},
    {0xF7, "/  #//#####//  #"},
    {0xF8, "// ## #/#  ##/# # #/##  #/# ##"},
    {0xFE, "#/#/# ##/##  #/#   #/####/#/#"},
    {0x2013, "////####"},
    {0x2014, "////#####"},
    {0x2018, "   #/  #/  #"},
    {0x2019, "  #/  #/ #"},
    {0x201C, "  # #/ # #/ # #"},
    {0x201D, " # #/ # #/# #"},
    {0x2026, "//////# # #"},
    {0x20AC, "  ###/ #/####/ #/####/ #/  ###"},
};

enum Accent { kGrave, kAcute, kCircumflex, kTilde, kDiaeresis, kRing, kCedilla };
constexpr const char* kAccents[] = {" #/  #", "   #/  #", "  #/ # #", " ## #/#  #", " # #", " ##/ ##", ""};

/// Letters made of a letter and an accent.
struct Composed {
  char32_t code;
  char base;
  Accent accent;
};
constexpr Composed kComposed[] = {
    {0xC0, 'A', kGrave},      {0xC1, 'A', kAcute},      {0xC2, 'A', kCircumflex}, {0xC3, 'A', kTilde},
    {0xC4, 'A', kDiaeresis},  {0xC5, 'A', kRing},       {0xC7, 'C', kCedilla},    {0xC8, 'E', kGrave},
    {0xC9, 'E', kAcute},      {0xCA, 'E', kCircumflex}, {0xCB, 'E', kDiaeresis},  {0xCC, 'I', kGrave},
    {0xCD, 'I', kAcute},      {0xCE, 'I', kCircumflex}, {0xCF, 'I', kDiaeresis},  {0xD1, 'N', kTilde},
    {0xD2, 'O', kGrave},      {0xD3, 'O', kAcute},      {0xD4, 'O', kCircumflex}, {0xD5, 'O', kTilde},
    {0xD6, 'O', kDiaeresis},  {0xD9, 'U', kGrave},      {0xDA, 'U', kAcute},      {0xDB, 'U', kCircumflex},
    {0xDC, 'U', kDiaeresis},  {0xDD, 'Y', kAcute},      {0xE0, 'a', kGrave},      {0xE1, 'a', kAcute},
    {0xE2, 'a', kCircumflex}, {0xE3, 'a', kTilde},      {0xE4, 'a', kDiaeresis},  {0xE5, 'a', kRing},
    {0xE7, 'c', kCedilla},    {0xE8, 'e', kGrave},      {0xE9, 'e', kAcute},      {0xEA, 'e', kCircumflex},
    {0xEB, 'e', kDiaeresis},  {0xEC, 'i', kGrave},      {0xED, 'i', kAcute},      {0xEE, 'i', kCircumflex},
    {0xEF, 'i', kDiaeresis},  {0xF1, 'n', kTilde},      {0xF2, 'o', kGrave},      {0xF3, 'o', kAcute},
    {0xF4, 'o', kCircumflex}, {0xF5, 'o', kTilde},      {0xF6, 'o', kDiaeresis},  {0xF9, 'u', kGrave},
    {0xFA, 'u', kAcute},      {0xFB, 'u', kCircumflex}, {0xFC, 'u', kDiaeresis},  {0xFD, 'y', kAcute},
    {0xFF, 'y', kDiaeresis},
};
// clang-format on

void draw(std::string_view rows, std::size_t row, Glyph& out) {
  std::uint8_t bit = 0x10;
  for (const char mark : rows) {
    if (mark == '/') {
      ++row;
      bit = 0x10;
      continue;
    }
    if (mark == '#') out.at(row) |= bit;
    bit >>= 1;
  }
}

class Font {
 public:
  Font() {
    for (const auto& [code, rows] : kDrawn) {
      Glyph glyph{};
      draw(rows, kCapitalTop, glyph);
      add(code, glyph);
    }
    add(' ', {});
    add(0xA0, {});
    for (const auto& [code, base, accent] : kComposed) add(code, composed(base, accent));
    std::sort(glyphs_.begin(), glyphs_.end(), [](const auto& a, const auto& b) { return a.code < b.code; });
  }

  const Glyph* find(char32_t code) const {
    const auto found = std::lower_bound(glyphs_.begin(), glyphs_.end(), code,
                                        [](const Entry& entry, char32_t c) { return entry.code < c; });
    return found != glyphs_.end() && found->code == code ? &found->glyph : nullptr;
  }

 private:
  struct Entry {
    char32_t code;
    Glyph glyph;
  };

  void add(char32_t code, const Glyph& glyph) { glyphs_.push_back({code, glyph}); }

  Glyph composed(char base, Accent accent) const {
    const auto plain = std::find_if(glyphs_.begin(), glyphs_.end(), [&](const Entry& entry) {
      return entry.code == static_cast<char32_t>(base);
    });
    Glyph glyph = plain->glyph;
    if (accent == kCedilla) {
      draw("  #/ ##", 9, glyph);
      return glyph;
    }
    const bool small = base >= 'a';
    if (base == 'i') glyph[kCapitalTop] = 0;  // its dot
    draw(kAccents[accent], small ? kSmallAccentTop : kCapitalTop - kAccentRows, glyph);
    return glyph;
  }

  std::vector<Entry> glyphs_;
};

const Font& font() {
  static const auto* instance = new Font;
  return *instance;
}

/// The code point at `at` of valid UTF-8, which moves behind it.
char32_t next_code(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(i < text.size() ? text[i] : 0); };
  const unsigned char lead = byte(at++);
  if (lead < 0x80) return lead;
  const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
  char32_t code = lead & (0x3F >> more);
  for (int i = 0; i < more; ++i) code = code << 6 | (byte(at++) & 0x3F);
  return code;
}

bool takes_no_place(char32_t code) {
  return code == 0xAD || (code >= 0x200B && code <= 0x200F) || (code >= 0x202A && code <= 0x202E) ||
         (code >= 0x2060 && code <= 0x2069) || (code >= 0xFE00 && code <= 0xFE0F) || code == 0xFEFF;
}

std::uint32_t box_width(char32_t code) {
  const std::uint32_t digits = code > 0xFFFF ? 6 : 4;  // two rows of them, 3 pixels wide and one between
  return 2 + digits / 2 * 4 + 2;
}

}  // namespace

std::vector<Letter> letters_of(std::string_view utf8) {
  std::vector<Letter> letters;
  for (std::size_t at = 0; at < utf8.size();) {
    char32_t code = next_code(utf8, at);
    if (takes_no_place(code)) continue;
    if (code < 0x20 || (code >= 0x7F && code < 0xA0)) code = ' ';
    const Glyph* glyph = font().find(code);
    letters.push_back({code, glyph, glyph != nullptr ? kCellWidth : box_width(code)});
  }
  return letters;
}

std::array<std::uint8_t, 5> small_digit(std::uint32_t digit) {
  static constexpr std::array<std::array<std::uint8_t, 5>, 16> kDigits{{{7, 5, 5, 5, 7},
                                                                        {2, 6, 2, 2, 7},
                                                                        {7, 1, 7, 4, 7},
                                                                        {7, 1, 3, 1, 7},
                                                                        {5, 5, 7, 1, 1},
                                                                        {7, 4, 7, 1, 7},
                                                                        {7, 4, 7, 5, 7},
                                                                        {7, 1, 2, 2, 2},
                                                                        {7, 5, 7, 5, 7},
                                                                        {7, 5, 7, 1, 7},
                                                                        {2, 5, 7, 5, 5},
                                                                        {6, 5, 6, 5, 6},
                                                                        {3, 4, 4, 4, 3},
                                                                        {6, 5, 5, 5, 6},
                                                                        {7, 4, 6, 4, 7},
                                                                        {7, 4, 6, 4, 4}}};
  return kDigits.at(digit & 15);
}

}  // namespace muster::report
