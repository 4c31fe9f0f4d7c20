// SPDX-License-Identifier: Apache-2.0
#include "fuzz/encoding_checks.h"

#include <algorithm>
#include <limits>

#include "fuzz/support.h"

namespace muster::fuzz {
namespace {

constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();

text::Encoding encode(const text::Tokenizer& tokenizer, std::string_view text, std::uint32_t max_length) {
  text::Encoding encoding;
  tokenizer.encode(text, max_length, encoding);
  return encoding;
}

void check_cut(const text::Tokenizer& tokenizer, const text::Encoding& whole, const text::Encoding& part,
               std::uint32_t max_length) {
  expect(part.ids.size() == std::min<std::size_t>(max_length, whole.ids.size()), "as many ids as fit");
  expect(part.full_length == whole.full_length && part.truncated() == (part.ids.size() < whole.ids.size()),
         "a cut text says so");
  // Special tokens before and after the text stay, so what is cut away lies in one piece.
  const auto differ = std::ranges::mismatch(part.ids, whole.ids);
  const auto front = static_cast<std::size_t>(differ.in1 - part.ids.begin()), back = part.ids.size() - front;
  expect(back <= tokenizer.special_tokens_count(), "only special tokens follow the cut");
  expect(std::equal(part.ids.end() - static_cast<std::ptrdiff_t>(back), part.ids.end(),
                    whole.ids.end() - static_cast<std::ptrdiff_t>(back)),
         "the special tokens at the end are kept");
}

}  // namespace

void check_encoding(const text::Tokenizer& tokenizer, std::string_view text, std::uint32_t max_length) {
  const auto whole = encode(tokenizer, text, kNoLimit);
  expect(whole.full_length == whole.ids.size() && !whole.truncated(), "nothing is cut without a limit");
  expect(whole.ids.size() >= tokenizer.special_tokens_count(), "special tokens are always there");
  for (const std::uint32_t id : whole.ids) {
    expect(id < tokenizer.vocab_size(), "ids lie in the vocabulary");
    tokenizer.id_to_token(id);  // throws when there is none
  }
  expect(encode(tokenizer, text, kNoLimit).ids == whole.ids, "a second time gives the same ids");
  const auto part = unless<core::ConfigError>([&] { return encode(tokenizer, text, max_length); });
  expect(part.has_value() == (max_length >= tokenizer.special_tokens_count()),
         "a limit is refused that has no room for special tokens");
  if (part) check_cut(tokenizer, whole, *part, max_length);
}

void check_hard_texts(const text::Tokenizer& tokenizer) {
  constexpr std::string_view kTexts[] = {
      "",
      " ",
      "Hello, World! it's 42.",
      "[CLS] <s> </s> <mask> [MASK]x",
      "\t\n na\xC3\xAFve \xC3\x89"
      "COLE \xC4\xB0\xCC\x87 \xCE\xA3\xE1\xBA\x9E",
      "\xE6\xBC\xA2\xE5\xAD\x97\xE3\x82\xAB\xED\x95\x9C\xEA\xB8\x80\xE0\xA4\x95\xE0\xA5\x8D",
      "e\xCC\x81\xCC\xA3 \xEF\xAC\x81 \xC2\xBD \xE2\x80\x8B\xC2\xA0 "
      "\xF0\x9F\x98\x80\xE2\x80\x8D\xF0\x9F\x94\xA5",
      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xEF\xBF\xBD\xF0\xAF\xA0\x80",
  };
  for (const auto text : kTexts) check_encoding(tokenizer, text, 5);
}

}  // namespace muster::fuzz
