// SPDX-License-Identifier: Apache-2.0
#include "text/normalizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "text/component.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace muster::text {

namespace {

void clean(std::u32string& text) {
  const CharTable& chars = char_table();
  std::size_t size = 0;
  for (const char32_t c : text) {
    const unsigned classes = chars.classes(c);
    if (classes & kControl) continue;
    text[size++] = classes & kWhitespace ? U' ' : c;
  }
  text.resize(size);
}

void space_chinese(std::u32string& text, std::u32string& spare) {
  const CharTable& chars = char_table();
  spare.clear();
  for (const char32_t c : text) {
    if (chars.is(c, kChinese)) {
      spare.append({U' ', c, U' '});
    } else {
      spare.push_back(c);
    }
  }
  text.swap(spare);
}

void drop(std::u32string& text, unsigned classes) {
  const CharTable& chars = char_table();
  std::erase_if(text, [&](char32_t c) { return chars.is(c, classes); });
}

void lower(std::u32string& text, std::u32string& spare) {
  const CharTable& chars = char_table();
  spare.clear();
  for (const char32_t c : text) {
    if (chars.is(c, kUpper)) {
      append_lower(c, spare);
    } else {
      spare.push_back(c);
    }
  }
  text.swap(spare);
}

void strip_left(std::u32string& text) {
  const CharTable& chars = char_table();
  text.erase(text.begin(), std::find_if_not(text.begin(), text.end(),
                                            [&](char32_t c) { return chars.is(c, kWhitespace); }));
}

void strip_right(std::u32string& text) {
  const CharTable& chars = char_table();
  while (!text.empty() && chars.is(text.back(), kWhitespace)) text.pop_back();
}

void replace_all(std::u32string& text, std::u32string& spare, const std::u32string& pattern,
                 const std::u32string& content) {
  std::size_t at = text.find(pattern);
  if (at == std::u32string::npos) return;
  std::size_t from = 0;
  spare.clear();
  for (; at != std::u32string::npos; at = text.find(pattern, from)) {
    spare.append(text, from, at - from).append(content);
    from = at + pattern.size();
  }
  spare.append(text, from);
  text.swap(spare);
}

/// Every run of white space becomes `content`.
void replace_spaces(std::u32string& text, std::u32string& spare, const std::u32string& content) {
  const CharTable& chars = char_table();
  spare.clear();
  bool inside = false;
  for (const char32_t c : text) {
    const bool space = chars.is(c, kWhitespace);
    if (!space) {
      spare.push_back(c);
    } else if (!inside) {
      spare.append(content);
    }
    inside = space;
  }
  text.swap(spare);
}

std::u32string decoded(std::string_view text) {
  std::u32string out;
  decode_utf8(text, out);
  return out;
}

}  // namespace

Normalizer Normalizer::from_json(const formats::JsonValue& section) {
  Normalizer out;
  if (!section.is_null()) out.add(section);
  out.build_ascii_map();
  return out;
}

Normalizer Normalizer::from_options(const BertNormalizerOptions& options) {
  Normalizer out;
  out.add_bert(options);
  out.build_ascii_map();
  return out;
}

void Normalizer::add(const formats::JsonValue& section) {
  constexpr std::pair<std::string_view, Kind> kPlain[] = {
      {"Lowercase", Kind::kLowercase}, {"NFC", Kind::kNfc},   {"NFD", Kind::kNfd},
      {"NFKC", Kind::kNfkc},           {"NFKD", Kind::kNfkd}, {"StripAccents", Kind::kDropMarks},
  };
  const std::string type = component_type(section);
  const auto* plain =
      std::find_if(std::begin(kPlain), std::end(kPlain), [&](const auto& row) { return row.first == type; });
  if (plain != std::end(kPlain)) {
    add(plain->second);
  } else if (type == "Sequence") {
    for (const auto& part : section.at("normalizers").elements()) add(part);
  } else if (type == "BertNormalizer") {
    BertNormalizerOptions options;
    options.clean_text = section.get<bool>("clean_text");
    options.handle_chinese_chars = section.get<bool>("handle_chinese_chars");
    options.lowercase = section.get<bool>("lowercase");
    const auto strip = section.find("strip_accents");
    if (strip && !strip->is_null()) options.strip_accents = strip->as<bool>();
    add_bert(options);
  } else if (type == "Strip") {
    if (section.get<bool>("strip_left")) add(Kind::kStripLeft);
    if (section.get<bool>("strip_right")) add(Kind::kStripRight);
  } else if (type == "Replace") {
    add_replace(section);
  } else if (type == "Prepend") {
    steps_.push_back({Kind::kPrepend, {}, decoded(section.at("prepend").view())});
  } else {
    fail_unsupported(
        section, type,
        "BertNormalizer, Lowercase, NFC, NFD, NFKC, NFKD, Prepend, Replace, Sequence, Strip, StripAccents");
  }
}

void Normalizer::add_bert(const BertNormalizerOptions& options) {
  if (options.clean_text) add(Kind::kCleanText);
  if (options.handle_chinese_chars) add(Kind::kSpaceChinese);
  if (options.strip_accents.value_or(options.lowercase)) {
    add(Kind::kNfd);
    add(Kind::kDropNonspacing);
  }
  if (options.lowercase) add(Kind::kLowercase);
}

void Normalizer::add_replace(const formats::JsonValue& section) {
  const auto pattern = section.at("pattern");
  Step step{Kind::kReplaceSpaces, U" ", decoded(section.at("content").view())};
  if (const auto expression = pattern.find("Regex")) {
    if (expression->view() != R"(\s+)") {
      pattern.fail(
          "is a regular expression that is not supported: patterns of a model folder are never run; only "
          "\\s+ is known, and {\"String\": ...} works");
    }
  } else {
    const auto text = pattern.at("String");
    if (text.view().empty()) text.fail("is empty");
    step.kind = Kind::kReplace;
    step.pattern = decoded(text.view());
  }
  // Steps that each double a text would fill the memory from a page of JSON.
  constexpr double kMaxGrowth = 100;
  growth_ *=
      std::max(1.0, static_cast<double>(step.content.size()) / static_cast<double>(step.pattern.size()));
  if (growth_ > kMaxGrowth)
    section.fail(fmt::format("lets the normalizer make a text more than {} times as long", kMaxGrowth));
  steps_.push_back(std::move(step));
}

void Normalizer::build_ascii_map() {
  const CharTable& chars = char_table();
  for (unsigned c = 0; c < ascii_map_.size(); ++c) ascii_map_[c] = static_cast<std::uint8_t>(c);
  has_ascii_map_ = false;
  for (const Step& step : steps_) {
    if (step.kind >= Kind::kStripLeft) return;
    for (auto& mapped : ascii_map_) {
      if (mapped == kDrop) continue;
      if (step.kind == Kind::kCleanText) {
        mapped = chars.is(mapped, kControl)      ? kDrop
                 : chars.is(mapped, kWhitespace) ? std::uint8_t{' '}
                                                 : mapped;
      } else if (step.kind == Kind::kLowercase && mapped >= 'A' && mapped <= 'Z') {
        mapped = static_cast<std::uint8_t>(mapped - 'A' + 'a');
      }
    }
  }
  has_ascii_map_ = true;
}

std::string_view Normalizer::apply(std::string_view text, NormalizerScratch& scratch) const {
  if (steps_.empty()) return text;
  if (has_ascii_map_ && is_ascii(text)) {
    scratch.text.resize(text.size());
    char* out = scratch.text.data();
    for (const char byte : text) {
      const std::uint8_t mapped = ascii_map_[static_cast<unsigned char>(byte)];
      *out = static_cast<char>(mapped);
      out += mapped != kDrop;
    }
    return {scratch.text.data(), out};
  }
  decode_utf8(text, scratch.chars);
  for (const Step& step : steps_) run(step, scratch);
  encode_utf8(scratch.chars, scratch.text);
  return scratch.text;
}

void Normalizer::run(const Step& step, NormalizerScratch& scratch) {
  std::u32string& text = scratch.chars;
  std::u32string& spare = scratch.spare;
  const auto decomposed = [&](Decomposition form) {
    decompose(text, form, spare);
    text.swap(spare);
  };
  switch (step.kind) {
    case Kind::kCleanText:
      return clean(text);
    case Kind::kSpaceChinese:
      return space_chinese(text, spare);
    case Kind::kDropNonspacing:
      return drop(text, kNonspacing);
    case Kind::kDropMarks:
      return drop(text, kMark);
    case Kind::kLowercase:
      return lower(text, spare);
    case Kind::kNfd:
      return decomposed(Decomposition::kCanonical);
    case Kind::kNfkd:
      return decomposed(Decomposition::kCompatibility);
    case Kind::kNfc:
      decomposed(Decomposition::kCanonical);
      return compose(text);
    case Kind::kNfkc:
      decomposed(Decomposition::kCompatibility);
      return compose(text);
    case Kind::kStripLeft:
      return strip_left(text);
    case Kind::kStripRight:
      return strip_right(text);
    case Kind::kReplaceSpaces:
      return replace_spaces(text, spare, step.content);
    case Kind::kReplace:
      return replace_all(text, spare, step.pattern, step.content);
    case Kind::kPrepend:
      if (!text.empty()) text.insert(0, step.content);
      return;
  }
}

}  // namespace muster::text
