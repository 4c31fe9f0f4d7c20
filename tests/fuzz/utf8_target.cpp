// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/utf8.h"

#include "config/value.h"
#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "muster/text/lower_case.h"
#include "text/utf8.h"

namespace muster::fuzz {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size()))
    ++found;
  return found;
}

bool has_control(std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t' && c != '\n' && c != '\r') || byte == 0x7F) return true;
  }
  return false;
}

void check_lower_case(std::string_view text) {
  const std::string lower = text::lower_case(text);
  expect(is_utf8(lower), "lower case is valid UTF-8");
  expect(text::lower_case(lower) == lower, "lower case stays as it is");
}

void check_code_points(std::string_view text) {
  std::u32string chars;
  text::decode_utf8(text, chars);
  expect(chars.size() == text::count_chars(text),
         "a valid text has as many characters as bytes that begin one");
  std::string again;
  text::encode_utf8(chars, again);
  expect(again == text, "decoding and encoding gives the same text");
}

}  // namespace

void utf8(std::string_view bytes) {
  const bool valid = is_utf8(bytes);
  const std::size_t prefix = formats::valid_utf8_prefix(bytes);
  expect(prefix <= bytes.size() && is_utf8(bytes.substr(0, prefix)), "the valid prefix is valid");
  expect((prefix == bytes.size()) == valid && formats::is_valid_utf8(bytes) == valid,
         "valid is what the code points say");
  for (std::size_t more = prefix + 1; more <= bytes.size() && more <= prefix + 4; ++more) {
    expect(!is_utf8(bytes.substr(0, more)), "the valid prefix is the longest");
  }

  std::string repaired = "left over";
  const std::size_t replaced = formats::assign_utf8_replaced(bytes, repaired);
  expect(is_utf8(repaired), "a repaired text is valid");
  expect((replaced == 0) == valid && (!valid || repaired == bytes), "a valid text is left alone");
  expect(count(repaired, kReplacement) == count(bytes, kReplacement) + replaced,
         "one replacement for each that is counted");

  expect(!config::first_bad_line(bytes) == (valid && !has_control(bytes)),
         "config files take the same UTF-8");
  text::lower_case(bytes);  // beyond its contract where the text is not valid, but it must do no harm
  check_lower_case(repaired);
  check_code_points(repaired);
}

}  // namespace muster::fuzz
