// SPDX-License-Identifier: Apache-2.0
#include "text/splitters.h"

#include <array>
#include <cstdint>

#include "text/unicode.h"
#include "text/utf8.h"

namespace muster::text {

namespace {

/// Length of the contraction at `text` ('s 't 're 've 'm 'll 'd), 0 when there is none.
std::size_t contraction(std::string_view text) {
  constexpr std::string_view kContractions[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
  for (const auto candidate : kContractions) {
    if (text.starts_with(candidate)) return candidate.size();
  }
  return 0;
}

/// The kinds of runs in GPT-2's pattern; white space is the kind of its own.
unsigned gpt2_kind(const CharTable& chars, char32_t c) {
  return chars.classes(c) & (kLetter | kNumber | kWhitespace);
}

/// End of the run of characters of one kind that starts at `position`.
std::size_t end_of_run(const CharTable& chars, std::string_view text, std::size_t position, std::size_t end,
                       unsigned kind) {
  while (position < end) {
    std::size_t next = position;
    if (gpt2_kind(chars, next_char(text, next)) != kind) break;
    position = next;
  }
  return position;
}

/// \s+(?!\S)|\s+ : all white space up to the end of the text; otherwise its last character is left to the
/// next word.
std::size_t end_of_spaces(const CharTable& chars, std::string_view text, std::size_t begin, std::size_t end) {
  std::size_t last = begin, position = begin;
  while (position < end) {
    std::size_t next = position;
    if (!chars.is(next_char(text, next), kWhitespace)) return last == begin ? position : last;
    last = position;
    position = next;
  }
  return end;
}

std::size_t end_of_gpt2_word(const CharTable& chars, std::string_view text, std::size_t begin,
                             std::size_t end) {
  if (text[begin] == '\'') {
    const std::size_t size = contraction(text.substr(begin, end - begin));
    if (size > 0) return begin + size;
  }
  std::size_t position = begin;
  if (text[begin] == ' ' && begin + 1 < end) {
    std::size_t next = begin + 1;
    if (!chars.is(next_char(text, next), kWhitespace)) position = begin + 1;
  }
  std::size_t next = position;
  const unsigned kind = gpt2_kind(chars, next_char(text, next));
  if (kind & kWhitespace) return end_of_spaces(chars, text, begin, end);
  return end_of_run(chars, text, next, end, kind);
}

/// Length of the special token of CLIP at `text`, 0 when there is none.
std::size_t clip_token(std::string_view text) {
  for (const std::string_view candidate : {"<|startoftext|>", "<|endoftext|>"}) {
    if (text.starts_with(candidate)) return candidate.size();
  }
  return 0;
}

/// End of CLIP's word at `begin`, where there is no white space.
std::size_t end_of_clip_word(std::string_view text, std::size_t begin, std::size_t end, ClipTokens tokens) {
  const CharTable& chars = char_table();
  const std::string_view rest = text.substr(begin, end - begin);
  const std::size_t token = tokens == ClipTokens::kAsWords ? clip_token(rest) : 0;
  if (token > 0) return begin + token;
  if (const std::size_t size = contraction(rest); size > 0) return begin + size;
  std::size_t next = begin;
  const unsigned kind = gpt2_kind(chars, next_char(text, next));
  if (kind & kNumber) return next;
  return end_of_run(chars, text, next, end, kind);
}

/// GPT-2 writes the bytes that are printable in Latin-1 as themselves and the other 68 as U+0100 and up.
struct ByteAlphabet {
  std::array<std::array<char, 2>, 256> utf8{};
  std::array<std::uint8_t, 256> size{};
};

constexpr ByteAlphabet make_byte_alphabet() {
  ByteAlphabet out;
  unsigned others = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    const unsigned c = printable ? byte : 0x100 + others++;
    if (c < 0x80) {
      out.utf8[byte] = {static_cast<char>(c), 0};
      out.size[byte] = 1;
    } else {
      out.utf8[byte] = {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
      out.size[byte] = 2;
    }
  }
  return out;
}
constexpr ByteAlphabet kByteAlphabet = make_byte_alphabet();

}  // namespace

void split_bert(std::string_view text, Piece piece, std::vector<Piece>& out) {
  const CharTable& chars = char_table();
  std::size_t word = piece.begin;
  for (std::size_t i = piece.begin; i < piece.end;) {
    const std::size_t begin = i;
    const unsigned classes = chars.classes(next_char(text, i)) & (kWhitespace | kPunctuation);
    if (classes == 0) continue;
    if (word < begin) out.push_back({word, begin});
    if (classes & kPunctuation) out.push_back({begin, i});
    word = i;
  }
  if (word < piece.end) out.push_back({word, piece.end});
}

void match_chars(std::string_view text, Piece piece, unsigned classes, std::vector<Match>& out) {
  const CharTable& chars = char_table();
  std::size_t last = piece.begin;
  for (std::size_t i = piece.begin; i < piece.end;) {
    const std::size_t begin = i;
    if (!chars.is(next_char(text, i), classes)) continue;
    if (last < begin) out.push_back({last, begin, false});
    out.push_back({begin, i, true});
    last = i;
  }
  if (last < piece.end) out.push_back({last, piece.end, false});
}

void match_word_runs(std::string_view text, Piece piece, std::vector<Match>& out) {
  const CharTable& chars = char_table();
  const auto kind_of = [&](char32_t c) {
    const unsigned classes = chars.classes(c);
    return (classes & kWord) != 0 ? unsigned{kWord} : classes & kWhitespace;
  };
  for (std::size_t i = piece.begin; i < piece.end;) {
    const std::size_t begin = i;
    const unsigned kind = kind_of(next_char(text, i));
    for (std::size_t next = i; next < piece.end && kind_of(next_char(text, next)) == kind;) i = next;
    out.push_back({begin, i, kind != kWhitespace});
  }
}

void match_gpt2(std::string_view text, Piece piece, std::vector<Match>& out) {
  const CharTable& chars = char_table();
  for (std::size_t i = piece.begin; i < piece.end;) {
    const std::size_t end = end_of_gpt2_word(chars, text, i, piece.end);
    out.push_back({i, end, true});
    i = end;
  }
}

void match_clip(std::string_view text, Piece piece, ClipTokens tokens, std::vector<Match>& out) {
  const CharTable& chars = char_table();
  for (std::size_t i = piece.begin; i < piece.end;) {
    std::size_t word = i;
    for (std::size_t next = i; next < piece.end && chars.is(next_char(text, next), kWhitespace);) word = next;
    if (i < word) out.push_back({i, word, false});
    if (word == piece.end) break;
    i = end_of_clip_word(text, word, piece.end, tokens);
    out.push_back({word, i, true});
  }
}

void match_literal(std::string_view text, Piece piece, std::string_view literal, std::vector<Match>& out) {
  const std::string_view inside = text.substr(0, piece.end);
  std::size_t last = piece.begin;
  for (auto at = inside.find(literal, last); at != std::string_view::npos; at = inside.find(literal, last)) {
    if (last < at) out.push_back({last, at, false});
    last = at + literal.size();
    out.push_back({at, last, true});
  }
  if (last < piece.end) out.push_back({last, piece.end, false});
}

std::string_view prefix_spaces(std::string_view text, PreTokenizerScratch& scratch) {
  scratch.spare_text.clear();
  for (Piece& piece : scratch.pieces) {
    const std::size_t begin = scratch.spare_text.size();
    const std::string_view word = piece.of(text);
    if (!word.starts_with(' ')) scratch.spare_text.push_back(' ');
    scratch.spare_text.append(word);
    piece = {begin, scratch.spare_text.size()};
  }
  scratch.text.swap(scratch.spare_text);
  return scratch.text;
}

std::string_view map_bytes(std::string_view text, PreTokenizerScratch& scratch) {
  std::size_t size = 0;
  for (const Piece& piece : scratch.pieces) size += 2 * (piece.end - piece.begin);
  scratch.spare_text.resize(size);
  char* out = scratch.spare_text.data();
  for (Piece& piece : scratch.pieces) {
    const auto begin = static_cast<std::size_t>(out - scratch.spare_text.data());
    for (const char byte : piece.of(text)) {
      const auto index = static_cast<unsigned char>(byte);
      const auto& mapped = kByteAlphabet.utf8[index];
      out[0] = mapped[0];
      if (kByteAlphabet.size[index] == 2) out[1] = mapped[1];
      out += kByteAlphabet.size[index];
    }
    piece = {begin, static_cast<std::size_t>(out - scratch.spare_text.data())};
  }
  scratch.text.swap(scratch.spare_text);
  return scratch.text;
}

}  // namespace muster::text
