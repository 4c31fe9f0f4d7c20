// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/utf8.h"

#include <cstdint>
#include <cstring>

namespace muster::formats {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// The first non-ASCII byte at or after `at`.
std::size_t skip_ascii(std::string_view text, std::size_t at) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080ull;
  for (; at + 32 <= text.size(); at += 32) {
    std::uint64_t words[4];
    std::memcpy(words, text.data() + at, sizeof(words));
    if (((words[0] | words[1] | words[2] | words[3]) & kHighBits) != 0) break;
  }
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
  return at;
}

struct Sequence {
  std::size_t bytes;  ///< of the sequence, or of the maximal invalid part
  bool valid;
};

/// What starts at the non-ASCII byte `at` (Unicode 15, table 3-7).
Sequence read_sequence(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  std::size_t length = 0;
  unsigned char low = 0x80, high = 0xBF;  // the range of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {1, false};
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (at + i >= text.size()) return {i, false};
    const auto byte = static_cast<unsigned char>(text[at + i]);
    if (byte < low || byte > high) return {i, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true};
}

}  // namespace

std::size_t valid_utf8_prefix(std::string_view text) {
  for (std::size_t at = 0;;) {
    at = skip_ascii(text, at);
    if (at == text.size()) return at;
    const Sequence sequence = read_sequence(text, at);
    if (!sequence.valid) return at;
    at += sequence.bytes;
  }
}

std::size_t assign_utf8_replaced(std::string_view text, std::string& out) {
  std::size_t good = valid_utf8_prefix(text);
  out.assign(text.substr(0, good));
  std::size_t replaced = 0;
  for (text.remove_prefix(good); !text.empty(); text.remove_prefix(good)) {
    text.remove_prefix(read_sequence(text, 0).bytes);
    out += kReplacement;
    ++replaced;
    good = valid_utf8_prefix(text);
    out += text.substr(0, good);
  }
  return replaced;
}

}  // namespace muster::formats
