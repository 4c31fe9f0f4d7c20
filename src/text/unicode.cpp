// SPDX-License-Identifier: Apache-2.0
#include "text/unicode.h"

#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/utf16.h>

#include <algorithm>
#include <span>
#include <utility>

#include "muster/core/error.h"
#include "text/utf8.h"

namespace muster::text {

namespace {

constexpr int kCategoriesVersion = 8, kNormalizationVersion = 9, kIcuVersion = 15;

struct YoungRange {
  char32_t first, last;
  std::uint16_t classes;
};

constexpr std::uint16_t kYoungLetter = kWord | kLetter, kYoungDigit = kWord | kNumber | kNumeric;

/// Characters assigned after Unicode 15.0, in the versions 15.1 and 16.0 (17.0 for kNumeric). They are
/// listed, so that ids do not depend on the ICU that happens to be installed.
constexpr YoungRange kYoung[] = {
    {0x897, 0x897, kWord},
    {0x1C89, 0x1C8A, kYoungLetter},
    {0xA7CB, 0xA7CD, kYoungLetter},
    {0xA7DA, 0xA7DC, kYoungLetter},
    {0x105C0, 0x105F3, kYoungLetter},
    {0x10D40, 0x10D49, kYoungDigit},
    {0x10D4A, 0x10D65, kYoungLetter},
    {0x10D69, 0x10D6D, kWord},
    {0x10D6F, 0x10D85, kYoungLetter},
    {0x10EC2, 0x10EC4, kYoungLetter},
    {0x10EFC, 0x10EFC, kWord},
    {0x11380, 0x11389, kYoungLetter},
    {0x1138B, 0x1138B, kYoungLetter},
    {0x1138E, 0x1138E, kYoungLetter},
    {0x11390, 0x113B5, kYoungLetter},
    {0x113B7, 0x113B7, kYoungLetter},
    {0x113B8, 0x113C0, kWord},
    {0x113C2, 0x113C2, kWord},
    {0x113C5, 0x113C5, kWord},
    {0x113C7, 0x113CA, kWord},
    {0x113CC, 0x113D0, kWord},
    {0x113D1, 0x113D1, kYoungLetter},
    {0x113D2, 0x113D2, kWord},
    {0x113D3, 0x113D3, kYoungLetter},
    {0x113E1, 0x113E2, kWord},
    {0x116D0, 0x116E3, kYoungDigit},
    {0x11BC0, 0x11BE0, kYoungLetter},
    {0x11BF0, 0x11BF9, kYoungDigit},
    {0x11DE0, 0x11DE9, kNumeric},
    {0x11F5A, 0x11F5A, kWord},
    {0x13460, 0x143FA, kYoungLetter},
    {0x16100, 0x1611D, kYoungLetter},
    {0x1611E, 0x1612F, kWord},
    {0x16130, 0x16139, kYoungDigit},
    {0x16D40, 0x16D6C, kYoungLetter},
    {0x16D70, 0x16D79, kYoungDigit},
    {0x16FF4, 0x16FF6, kNumeric},
    {0x18CFF, 0x18CFF, kYoungLetter},
    {0x1CCF0, 0x1CCF9, kYoungDigit},
    {0x1E5D0, 0x1E5ED, kYoungLetter},
    {0x1E5EE, 0x1E5EF, kWord},
    {0x1E5F0, 0x1E5F0, kYoungLetter},
    {0x1E5F1, 0x1E5FA, kYoungDigit},
    {0x2EBF0, 0x2EE5D, kYoungLetter},
};

struct YoungLower {
  char32_t first, last;
  std::int32_t distance;
};

/// Capital letters of Unicode 16.0 and 17.0 and how far away their small ones are.
constexpr YoungLower kYoungLower[] = {
    {0x1C89, 0x1C89, 1},      {0xA7CB, 0xA7CB, 0x264 - 0xA7CB},
    {0xA7CC, 0xA7CC, 1},      {0xA7CE, 0xA7CE, 1},
    {0xA7D2, 0xA7D2, 1},      {0xA7D4, 0xA7D4, 1},
    {0xA7DA, 0xA7DA, 1},      {0xA7DC, 0xA7DC, 0x19B - 0xA7DC},
    {0x10D50, 0x10D65, 0x20}, {0x16EA0, 0x16EB8, 0x1B},
};

template <class Range, std::size_t kCount>
const Range* find_range(const Range (&ranges)[kCount], char32_t c) {
  const auto* found = std::lower_bound(std::begin(ranges), std::end(ranges), c,
                                       [](const Range& range, char32_t value) { return range.last < value; });
  return found != std::end(ranges) && found->first <= c ? found : nullptr;
}

bool in_any(char32_t c, std::initializer_list<std::pair<char32_t, char32_t>> ranges) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [c](const auto& range) { return c >= range.first && c <= range.second; });
}

/// Unicode version that assigned the character, 0 when ICU does not know it.
int age_of(char32_t c) {
  UVersionInfo version;
  u_charAge(static_cast<UChar32>(c), version);
  return version[0];
}
/// 8.0 and 9.0 had no later minor versions, so the major number is enough.
bool assigned_in(char32_t c, int version) {
  const int age = age_of(c);
  return age != 0 && age <= version;
}
/// Assigned up to 15.0 exactly: 15.1 has the same major number.
bool known_to_icu_15(char32_t c) {
  UVersionInfo version;
  u_charAge(static_cast<UChar32>(c), version);
  return version[0] != 0 && (version[0] < kIcuVersion || (version[0] == kIcuVersion && version[1] == 0));
}

std::uint32_t category_mask(char32_t c) {
  return U_MASK(u_charType(static_cast<UChar32>(c)));
}

/// General category of Unicode 8.0: ICU's, except for the characters whose category changed since.
std::uint32_t category_mask_8(char32_t c) {
  switch (c) {
    case 0x166D:
      return U_GC_PO_MASK;
    case 0x1734:
      return U_GC_MN_MASK;
    case 0x1885:
    case 0x1886:
      return U_GC_LO_MASK;
    case 0xA9BD:
      return U_GC_MC_MASK;
    case 0x111C9:
      return U_GC_PO_MASK;
    default:
      return assigned_in(c, kCategoriesVersion) ? category_mask(c) : 0;
  }
}

bool is_mark_9(char32_t c) {
  if (c == 0x1CF2 || c == 0x1CF3) return true;
  return c != 0x111C9 && assigned_in(c, kNormalizationVersion) && (category_mask(c) & U_GC_M_MASK) != 0;
}

bool is_ascii_punctuation(char32_t c) {
  return in_any(c, {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}});
}

bool is_chinese(char32_t c) {
  return in_any(c, {{0x4E00, 0x9FFF},
                    {0x3400, 0x4DBF},
                    {0x20000, 0x2A6DF},
                    {0x2A700, 0x2B73F},
                    {0x2B740, 0x2B81F},
                    {0x2B920, 0x2CEAF},
                    {0xF900, 0xFAFF},
                    {0x2F800, 0x2FA1F}});
}

std::uint16_t categories(char32_t c) {
  const std::uint32_t mask = category_mask_8(c);
  std::uint16_t out = 0;
  if (is_ascii_punctuation(c) || (mask & U_GC_P_MASK)) out |= kPunctuation;
  if (mask & U_GC_MN_MASK) out |= kNonspacing;
  const bool removed =
      (mask & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK)) != 0 || c == kReplacementCharacter;
  if (removed && c != '\t' && c != '\n' && c != '\r') out |= kControl;
  return out;
}

std::uint16_t expression_classes(char32_t c) {
  if (!known_to_icu_15(c)) {
    const auto* young = find_range(kYoung, c);
    return young != nullptr ? young->classes : 0;
  }
  const auto code = static_cast<UChar32>(c);
  const std::uint32_t mask = category_mask(c);
  std::uint16_t out = 0;
  if (mask & U_GC_L_MASK) out |= kLetter;
  if (mask & U_GC_N_MASK) out |= kNumber | kNumeric;
  const bool word = u_hasBinaryProperty(code, UCHAR_ALPHABETIC) ||
                    u_hasBinaryProperty(code, UCHAR_JOIN_CONTROL) ||
                    (mask & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
  if (word) out |= kWord;
  return out;
}

const UNormalizer2* normalizer(Decomposition form) {
  UErrorCode status = U_ZERO_ERROR;
  const auto* out =
      form == Decomposition::kCanonical ? unorm2_getNFCInstance(&status) : unorm2_getNFKCInstance(&status);
  core::internal_check(U_SUCCESS(status), "ICU has its normalization data");
  return out;
}

int combining_class(char32_t c) {
  return assigned_in(c, kNormalizationVersion) ? u_getCombiningClass(static_cast<UChar32>(c)) : 0;
}

/// Longest decomposition of Unicode: 18 characters.
constexpr int kMaxDecomposed = 64;

/// Full decomposition in UTF-16, empty when the character stays as it is.
std::span<const UChar> decomposition(const UNormalizer2* form, char32_t c,
                                     std::span<UChar, kMaxDecomposed> buffer) {
  if (!assigned_in(c, kNormalizationVersion)) return {};
  UErrorCode status = U_ZERO_ERROR;
  const int size =
      unorm2_getDecomposition(form, static_cast<UChar32>(c), buffer.data(), kMaxDecomposed, &status);
  if (size < 0) return {};
  core::internal_check(U_SUCCESS(status), "a decomposition fits its buffer");
  return buffer.first(static_cast<std::size_t>(size));
}

bool decomposes(char32_t c, Decomposition form) {
  std::array<UChar, kMaxDecomposed> buffer;
  return combining_class(c) != 0 || !decomposition(normalizer(form), c, buffer).empty();
}

/// Canonical order of the non-starters in [begin, end).
void order_marks(std::u32string& text, std::size_t begin, std::size_t end) {
  if (end - begin < 2) return;
  std::stable_sort(text.begin() + static_cast<std::ptrdiff_t>(begin),
                   text.begin() + static_cast<std::ptrdiff_t>(end),
                   [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
}

}  // namespace

std::uint16_t CharTable::compute(char32_t c) {
  std::uint16_t out = static_cast<std::uint16_t>(categories(c) | expression_classes(c));
  if (u_isUWhiteSpace(static_cast<UChar32>(c))) out |= kWhitespace;
  if (is_mark_9(c)) out |= kMark;
  if (is_chinese(c)) out |= kChinese;
  std::u32string lower;
  append_lower(c, lower);
  if (lower.size() != 1 || lower[0] != c) out |= kUpper;
  if (decomposes(c, Decomposition::kCanonical)) out |= kDecomposes;
  if (decomposes(c, Decomposition::kCompatibility)) out |= kDecomposesK;
  return out;
}

CharTable::CharTable() {
  for (char32_t c = 0; c < kTabulated; ++c) table_[c] = compute(c);
}

const CharTable& char_table() {
  static const CharTable table;
  return table;
}

void append_lower(char32_t c, std::u32string& out) {
  constexpr char32_t kCapitalIWithDot = 0x130;  // the only character whose lower case is two
  if (c == kCapitalIWithDot) {
    out.append(U"i\u0307");
  } else if (known_to_icu_15(c)) {
    out.push_back(static_cast<char32_t>(u_tolower(static_cast<UChar32>(c))));
  } else {
    const auto* young = find_range(kYoungLower, c);
    out.push_back(young != nullptr ? static_cast<char32_t>(static_cast<std::int32_t>(c) + young->distance)
                                   : c);
  }
}

void decompose(const std::u32string& text, Decomposition form, std::u32string& out) {
  const CharTable& chars = char_table();
  const unsigned active = form == Decomposition::kCanonical ? kDecomposes : kDecomposesK;
  const UNormalizer2* rules = normalizer(form);
  std::array<UChar, kMaxDecomposed> buffer;
  std::size_t marks_begin = 0;
  const auto add = [&](char32_t c) {
    const bool starter = !chars.is(c, active) || combining_class(c) == 0;
    if (starter) order_marks(out, marks_begin, out.size());
    out.push_back(c);
    if (starter) marks_begin = out.size();
  };
  out.clear();
  for (const char32_t c : text) {
    if (!chars.is(c, active)) {
      add(c);
      continue;
    }
    const auto parts = decomposition(rules, c, buffer);
    if (parts.empty()) add(c);
    for (std::size_t i = 0; i < parts.size();) {
      UChar32 part;
      U16_NEXT(parts.data(), i, parts.size(), part);
      add(static_cast<char32_t>(part));
    }
  }
  order_marks(out, marks_begin, out.size());
}

void compose(std::u32string& text) {
  const UNormalizer2* rules = normalizer(Decomposition::kCanonical);
  constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::size_t starter = kNone, size = 0;
  int last_class = 0;  // of the character before, when it is not the starter itself
  for (const char32_t c : text) {
    const int own_class = combining_class(c);
    const bool adjacent = starter != kNone && starter + 1 == size;
    if (adjacent || (starter != kNone && last_class != 0 && last_class < own_class)) {
      const UChar32 both =
          unorm2_composePair(rules, static_cast<UChar32>(text[starter]), static_cast<UChar32>(c));
      if (both >= 0 && assigned_in(static_cast<char32_t>(both), kNormalizationVersion)) {
        text[starter] = static_cast<char32_t>(both);
        continue;
      }
    }
    if (own_class == 0) starter = size;
    last_class = own_class;
    text[size++] = c;
  }
  text.resize(size);
}

}  // namespace muster::text
