// SPDX-License-Identifier: Apache-2.0
#include "text/pre_tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "text/component.h"
#include "text/splitters.h"
#include "text/unicode.h"

namespace muster::text {

PreTokenizer PreTokenizer::from_json(const formats::JsonValue& section) {
  PreTokenizer out;
  if (!section.is_null()) out.add(section);
  return out;
}

PreTokenizer PreTokenizer::words_and_punctuation() {
  PreTokenizer out;
  out.steps_.push_back({.kind = Kind::kBert});
  return out;
}

void PreTokenizer::add(const formats::JsonValue& section) {
  const std::string type = component_type(section);
  if (type == "Sequence") {
    for (const auto& part : section.at("pretokenizers").elements()) add(part);
  } else if (type == "BertPreTokenizer") {
    steps_.push_back({.kind = Kind::kBert});
  } else if (type == "Whitespace") {
    steps_.push_back(
        {.kind = Kind::kWordRuns, .behavior = Behavior::kRemoved, .sense = Sense::kMatchesAreWords});
  } else if (type == "WhitespaceSplit") {
    steps_.push_back({.kind = Kind::kCharClass, .behavior = Behavior::kRemoved, .classes = kWhitespace});
  } else if (type == "Punctuation") {
    const auto name = section.find("behavior");
    const auto behavior = name ? behavior_from(*name) : Behavior::kIsolated;
    steps_.push_back({.kind = Kind::kCharClass, .behavior = behavior, .classes = kPunctuation});
  } else if (type == "Digits") {
    const auto behavior =
        section.get<bool>("individual_digits") ? Behavior::kIsolated : Behavior::kContiguous;
    steps_.push_back({.kind = Kind::kCharClass, .behavior = behavior, .classes = kNumeric});
  } else if (type == "ByteLevel") {
    if (section.get<bool>("add_prefix_space")) steps_.push_back({.kind = Kind::kPrefixSpace});
    if (section.get_or<bool>("use_regex", true)) steps_.push_back({.kind = Kind::kGpt2});
    steps_.push_back({.kind = Kind::kByteLevel});
  } else if (type == "Split") {
    add_split(section);
  } else {
    fail_unsupported(
        section, type,
        "BertPreTokenizer, ByteLevel, Digits, Punctuation, Sequence, Split, Whitespace, WhitespaceSplit");
  }
}

void PreTokenizer::add_split(const formats::JsonValue& section) {
  Step step{.kind = Kind::kLiteral, .behavior = behavior_from(section.at("behavior"))};
  if (section.get<bool>("invert")) step.sense = Sense::kMatchesAreWords;
  const auto pattern = section.at("pattern");
  if (const auto expression = pattern.find("Regex")) {
    constexpr std::pair<std::string_view, Kind> kKnown[] = {{kGpt2Pattern, Kind::kGpt2},
                                                            {kClipPattern, Kind::kClip},
                                                            {kClipPatternWithTokens, Kind::kClipWithTokens}};
    const auto* known = std::find_if(std::begin(kKnown), std::end(kKnown),
                                     [&](const auto& row) { return row.first == expression->view(); });
    if (known == std::end(kKnown)) {
      expression->fail(
          "is the pattern of a Split pre-tokenizer that is not supported: patterns of a model folder are "
          "never run as regular expressions; only those of GPT-2 and CLIP are known, and {\"String\": ...} "
          "works");
    }
    step.kind = known->second;
  } else {
    const auto literal = pattern.at("String");
    if (literal.view().empty()) literal.fail("is empty");
    step.literal = literal.as<std::string>();
  }
  steps_.push_back(std::move(step));
}

PreTokenizer::Behavior PreTokenizer::behavior_from(const formats::JsonValue& name) {
  constexpr std::pair<std::string_view, Behavior> kNames[] = {
      {"Removed", Behavior::kRemoved},
      {"Isolated", Behavior::kIsolated},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext},
      {"Contiguous", Behavior::kContiguous},
  };
  const auto* found = std::find_if(std::begin(kNames), std::end(kNames),
                                   [&](const auto& row) { return row.first == name.view(); });
  if (found == std::end(kNames)) name.fail("names no split behavior");
  return found->second;
}

Words PreTokenizer::split(std::string_view text, PreTokenizerScratch& scratch) const {
  scratch.pieces.clear();
  if (!text.empty()) scratch.pieces.push_back({0, text.size()});
  for (const Step& step : steps_) text = run(step, text, scratch);
  return {text, scratch.pieces};
}

std::string_view PreTokenizer::run(const Step& step, std::string_view text, PreTokenizerScratch& scratch) {
  if (step.kind == Kind::kPrefixSpace) return prefix_spaces(text, scratch);
  if (step.kind == Kind::kByteLevel) return map_bytes(text, scratch);
  scratch.spare.clear();
  for (const Piece piece : scratch.pieces) {
    if (step.kind == Kind::kBert) {
      split_bert(text, piece, scratch.spare);
      continue;
    }
    scratch.matches.clear();
    find_matches(step, text, piece, scratch.matches);
    emit(step.behavior, scratch.matches, scratch.spare);
  }
  scratch.pieces.swap(scratch.spare);
  return text;
}

void PreTokenizer::find_matches(const Step& step, std::string_view text, Piece piece,
                                std::vector<Match>& out) {
  switch (step.kind) {
    case Kind::kCharClass:
      match_chars(text, piece, step.classes, out);
      break;
    case Kind::kWordRuns:
      match_word_runs(text, piece, out);
      break;
    case Kind::kGpt2:
      match_gpt2(text, piece, out);
      break;
    case Kind::kClip:
      match_clip(text, piece, ClipTokens::kAsText, out);
      break;
    case Kind::kClipWithTokens:
      match_clip(text, piece, ClipTokens::kAsWords, out);
      break;
    case Kind::kLiteral:
      match_literal(text, piece, step.literal, out);
      break;
    case Kind::kBert:
    case Kind::kPrefixSpace:
    case Kind::kByteLevel:
      break;  // have no matches: run() takes care of them
  }
  if (step.sense == Sense::kMatchesAreWords) {
    for (Match& match : out) match.is_match = !match.is_match;
  }
}

void PreTokenizer::emit(Behavior behavior, std::vector<Match>& matches, std::vector<Piece>& out) {
  const std::size_t first = out.size();
  const bool backwards = behavior == Behavior::kMergedWithNext;
  if (backwards) std::reverse(matches.begin(), matches.end());
  bool previous = false;
  for (const Match& match : matches) {
    bool joins = false;
    switch (behavior) {
      case Behavior::kRemoved:
        if (match.is_match) continue;
        break;
      case Behavior::kIsolated:
        break;
      case Behavior::kContiguous:
        joins = match.is_match == previous;
        break;
      case Behavior::kMergedWithPrevious:
      case Behavior::kMergedWithNext:
        joins = match.is_match && !previous;
        break;
    }
    previous = match.is_match;
    if (!joins || out.size() == first) {
      out.push_back({match.begin, match.end});
    } else if (backwards) {
      out.back().begin = match.begin;
    } else {
      out.back().end = match.end;
    }
  }
  if (backwards) std::reverse(out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
}

}  // namespace muster::text
