// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/utf8.h"

#include <algorithm>
#include <random>

#include "testing.h"

namespace muster::formats {
namespace {

using namespace std::string_literals;

/// In expectations '?' stands for one U+FFFD.
std::string with_replacements(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '?' ? "\xEF\xBF\xBD" : std::string(1, c);
  return out;
}

/// After Markus Kuhn's "UTF-8 decoder capability and stress test"; the expectations are those of
/// bytes.decode("utf-8", errors="replace") of Python 3.11.
TEST(Utf8, DamagedSequencesAreReplacedByMaximalSubparts) {
  struct Case {
    std::string name, bytes, expected;
  };
  const Case cases[] = {
      {"empty", "", ""},
      {"ascii", "plain", "plain"},
      {"two bytes", "\xC2\x80\xDF\xBF", "\xC2\x80\xDF\xBF"},
      {"three bytes", "\xE0\xA0\x80\xEF\xBF\xBF", "\xE0\xA0\x80\xEF\xBF\xBF"},
      {"around surrogates", "\xED\x9F\xBF\xEE\x80\x80", "\xED\x9F\xBF\xEE\x80\x80"},
      {"four bytes", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"},
      {"U+FFFD itself", "\xEF\xBF\xBD", "?"},
      {"NUL stays", "a\0b"s, "a\0b"s},
      {"lone continuation", "a\x80z", "a?z"},
      {"lone continuations", "\x80\xBF\x80", "???"},
      {"all continuations", "\x80\x90\xA0\xB0\xBF", "?????"},
      {"lone leads of 2", "\xC2 \xDF ", "? ? "},
      {"lone leads of 3", "\xE0 \xEF ", "? ? "},
      {"lone leads of 4", "\xF0 \xF4 ", "? ? "},
      {"leads of 5 and 6", "\xF8 \xFC ", "? ? "},
      {"2 without last", "\xDF", "?"},
      {"3 without last", "\xE2\x82z", "?z"},
      {"3 without last at end", "\xE2\x82", "?"},
      {"4 without last", "\xF0\x9F\x98z", "?z"},
      {"4 without two", "\xF0\x9Fz", "?z"},
      {"cut sequences in a row", "\xC3\xE2\x82\xF0\x9F\x98", "???"},
      {"5-byte form", "\xF8\x88\x80\x80\x80", "?????"},
      {"6-byte form", "\xFC\x84\x80\x80\x80\x80", "??????"},
      {"impossible bytes", "\xFE\xFF\xFE\xFF", "????"},
      {"overlong slash of 2", "\xC0\xAF", "??"},
      {"overlong slash of 3", "\xE0\x80\xAF", "???"},
      {"overlong slash of 4", "\xF0\x80\x80\xAF", "????"},
      {"overlong U+007F", "\xC1\xBF", "??"},
      {"overlong U+07FF", "\xE0\x9F\xBF", "???"},
      {"overlong U+FFFF", "\xF0\x8F\xBF\xBF", "????"},
      {"overlong NUL", "\xC0\x80", "??"},
      {"surrogate D800", "\xED\xA0\x80", "???"},
      {"surrogate DFFF", "\xED\xBF\xBF", "???"},
      {"surrogate pair", "\xED\xA0\x80\xED\xB0\x80", "??????"},
      {"above U+10FFFF", "\xF4\x90\x80\x80", "????"},
      {"F5", "\xF5\x80\x80\x80", "????"},
      {"latin-1",
       "caf\xE9 \xFC"
       "ber",
       "caf? ?ber"},
      {"latin-1 before letters", "\xE9t\xE9", "?t?"},
      {"Unicode table 3-8", "\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", "????????A"},
      {"Unicode table 3-9", "\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", "????????A"},
      {"Unicode table 3-10", "\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", "?????A??B"},
      {"Unicode table 3-11", "\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "????A"},
      {"behind 40 letters", std::string(40, 'x') + "\xFF" + std::string(40, 'y'),
       std::string(40, 'x') + "?" + std::string(40, 'y')},
  };
  for (const auto& c : cases) {
    std::string out = "old";
    const std::size_t count = assign_utf8_replaced(c.bytes, out);
    const std::string expected = with_replacements(c.expected);
    EXPECT_EQ(out, expected) << c.name;
    EXPECT_TRUE(is_valid_utf8(out)) << c.name;
    EXPECT_EQ(count == 0, is_valid_utf8(c.bytes)) << c.name;
    if (c.name != "U+FFFD itself") {
      EXPECT_EQ(count, static_cast<std::size_t>(std::count(c.expected.begin(), c.expected.end(), '?')))
          << c.name;
    }
  }
}

TEST(Utf8, EveryCodePointIsAcceptedAndEverySurrogateIsNot) {
  for (std::uint32_t code = 0; code <= 0x10FFFF; ++code) {
    std::string text;
    const auto tail = [&](int shift) { text += static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else if (code < 0x800) {
      text += static_cast<char>(0xC0 | (code >> 6));
    } else if (code < 0x10000) {
      text += static_cast<char>(0xE0 | (code >> 12));
      tail(6);
    } else {
      text += static_cast<char>(0xF0 | (code >> 18));
      tail(12);
      tail(6);
    }
    if (code >= 0x80) tail(0);
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    ASSERT_EQ(is_valid_utf8(text), !surrogate) << std::hex << code;
  }
}

TEST(Utf8, AnyBytesBecomeValidAndValidTextIsKept) {
  std::mt19937_64 random(11);
  const std::string alphabet = "ab\x80\xBF\xC2\xC3\xE0\xA0\xE2\x82\xAC\xED\x9F\xF0\x90\xF4\x8F\xFF";
  for (int i = 0; i < 50'000; ++i) {
    std::string bytes(random() % 40, '\0'), once, twice;
    for (char& c : bytes) c = alphabet[random() % alphabet.size()];
    assign_utf8_replaced(bytes, once);
    ASSERT_TRUE(is_valid_utf8(once));
    ASSERT_EQ(assign_utf8_replaced(once, twice), 0u);
    ASSERT_EQ(once, twice);
    ASSERT_EQ(once.compare(0, valid_utf8_prefix(bytes), bytes, 0, valid_utf8_prefix(bytes)), 0);
  }
}

}  // namespace
}  // namespace muster::formats
