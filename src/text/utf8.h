// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace muster::text {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

inline bool is_ascii_byte(char byte) {
  return static_cast<unsigned char>(byte) < 0x80;
}
inline bool is_utf8_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

/// Reads the character at `position` and moves behind it. Texts are valid UTF-8 by contract; should one not
/// be, a bad byte reads as U+FFFD and nothing beyond the view is touched.
inline char32_t next_char(std::string_view text, std::size_t& position) {
  const auto lead = static_cast<unsigned char>(text[position++]);
  if (lead < 0x80) return lead;
  const std::size_t extra = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
  if (lead < 0xC2 || lead > 0xF4 || text.size() - position < extra) return kReplacementCharacter;
  char32_t value = lead & (0x3Fu >> extra);
  for (std::size_t i = 0; i < extra; ++i) {
    if (!is_utf8_continuation(text[position + i])) return kReplacementCharacter;
    value = (value << 6) | (static_cast<unsigned char>(text[position + i]) & 0x3Fu);
  }
  position += extra;
  return value;
}

/// The character that ends at `position` (> 0).
inline char32_t char_before(std::string_view text, std::size_t position) {
  std::size_t begin = position - 1;
  while (begin > 0 && position - begin < 4 && is_utf8_continuation(text[begin])) --begin;
  return next_char(text, begin);
}

inline void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    const char bytes[] = {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
    out.append(bytes, 2);
  } else if (c < 0x10000) {
    const char bytes[] = {static_cast<char>(0xE0 | (c >> 12)), static_cast<char>(0x80 | ((c >> 6) & 0x3F)),
                          static_cast<char>(0x80 | (c & 0x3F))};
    out.append(bytes, 3);
  } else {
    const char bytes[] = {static_cast<char>(0xF0 | (c >> 18)), static_cast<char>(0x80 | ((c >> 12) & 0x3F)),
                          static_cast<char>(0x80 | ((c >> 6) & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
    out.append(bytes, 4);
  }
}

inline void decode_utf8(std::string_view text, std::u32string& out) {
  out.clear();
  for (std::size_t i = 0; i < text.size();) out.push_back(next_char(text, i));
}

inline void encode_utf8(const std::u32string& text, std::string& out) {
  out.clear();
  for (const char32_t c : text) append_utf8(out, c);
}

inline std::size_t count_chars(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return !is_utf8_continuation(byte); }));
}

inline bool is_ascii(std::string_view text) {
  unsigned char bits = 0;
  for (const char byte : text) bits |= static_cast<unsigned char>(byte);
  return bits < 0x80;
}

}  // namespace muster::text
