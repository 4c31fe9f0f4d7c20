// SPDX-License-Identifier: Apache-2.0
#include "text/added_tokens.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace muster::text {

bool TokenMatcher::add(std::string_view pattern, std::uint32_t token) {
  if (!patterns_.insert(pattern, token)) return false;
  auto& lengths = lengths_[static_cast<unsigned char>(pattern.front())];
  const auto size = static_cast<std::uint32_t>(pattern.size());
  const auto place = std::lower_bound(lengths.begin(), lengths.end(), size, std::greater<>());
  if (place == lengths.end() || *place != size) lengths.insert(place, size);
  return true;
}

std::optional<TokenMatcher::Found> TokenMatcher::next(std::string_view text, std::size_t from) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    for (const std::uint32_t size : lengths_[static_cast<unsigned char>(text[begin])]) {
      if (size > text.size() - begin) continue;
      if (const auto token = patterns_.find(text.substr(begin, size)))
        return Found{begin, begin + size, *token};
    }
  }
  return std::nullopt;
}

AddedTokens AddedTokens::from_json(const formats::JsonValue& section, const Vocabulary& vocabulary,
                                   const Normalizer& normalizer) {
  AddedTokens out;
  TokenMap seen;
  auto next_id = static_cast<std::uint32_t>(vocabulary.size());
  for (const auto& entry : section.elements()) {
    AddedToken token;
    token.content = entry.get<std::string>("content");
    token.id = entry.get<std::uint32_t>("id");
    token.single_word = entry.get<bool>("single_word");
    token.strip_left = entry.get<bool>("lstrip");
    token.strip_right = entry.get<bool>("rstrip");
    token.match_on = entry.get<bool>("normalized") ? MatchOn::kNormalizedText : MatchOn::kRawText;
    if (token.content.empty()) continue;
    if (!seen.insert(token.content, token.id)) {
      entry.fail(fmt::format("is the token '{}' a second time", core::printable(token.content)));
    }
    const auto in_vocabulary = vocabulary.find(token.content);
    const std::uint32_t id = in_vocabulary ? *in_vocabulary : next_id++;
    if (id != token.id) {
      entry.fail(fmt::format("gives '{}' the id {}, but {} {}; is this the tokenizer.json of this model?",
                             core::printable(token.content), token.id,
                             in_vocabulary ? "the vocabulary says" : "the next free id is", id));
    }
    out.add(std::move(token), normalizer);
  }
  return out;
}

void AddedTokens::add(AddedToken token, const Normalizer& normalizer) {
  const auto index = static_cast<std::uint32_t>(tokens_.size());
  if (token.match_on == MatchOn::kRawText) {
    raw_.add(token.content, index);
  } else {
    NormalizerScratch scratch;
    const std::string_view pattern = normalizer.apply(token.content, scratch);
    if (!pattern.empty() && !normalized_.add(pattern, index)) {
      core::log::warning(
          "tokenizer: added token '{}' never matches, an earlier one has the same normalized form",
          core::printable(token.content));
    }
  }
  tokens_.push_back(std::move(token));
}

void AddedTokens::split(std::string_view text, MatchOn what, std::vector<Segment>& out) const {
  const TokenMatcher& matcher = what == MatchOn::kRawText ? raw_ : normalized_;
  out.clear();
  std::size_t done = 0;
  if (!matcher.empty()) {
    for (auto found = matcher.next(text, 0); found; found = matcher.next(text, found->end)) {
      append(*found, text, done, out);
    }
  }
  if (done < text.size()) out.push_back({done, text.size(), std::nullopt});
}

void AddedTokens::append(const TokenMatcher::Found& found, std::string_view text, std::size_t& done,
                         std::vector<Segment>& out) const {
  const CharTable& chars = char_table();
  const AddedToken& token = tokens_[found.token];
  std::size_t begin = found.begin, end = found.end;
  if (token.single_word) {
    std::size_t after = end;
    const bool touched = (begin > 0 && chars.is(char_before(text, begin), kWord)) ||
                         (end < text.size() && chars.is(next_char(text, after), kWord));
    if (touched) return;
  }
  if (token.strip_left) {
    while (begin > done && chars.is(char_before(text, begin), kWhitespace)) {
      do --begin;
      while (begin > done && is_utf8_continuation(text[begin]));
    }
  }
  if (token.strip_right) {
    for (std::size_t next = end; next < text.size() && chars.is(next_char(text, next), kWhitespace);)
      end = next;
  }
  if (done < begin) out.push_back({done, begin, std::nullopt});
  out.push_back({begin, end, token.id});
  done = end;  // may be before the end of white space that an earlier token took: it counts twice, as in the
               // reference
}

std::optional<std::string_view> AddedTokens::token(std::uint32_t id) const {
  const auto found =
      std::find_if(tokens_.begin(), tokens_.end(), [id](const AddedToken& token) { return token.id == id; });
  if (found == tokens_.end()) return std::nullopt;
  return found->content;
}

std::optional<std::uint32_t> AddedTokens::find(std::string_view content) const {
  const auto found = std::find_if(tokens_.begin(), tokens_.end(),
                                  [&](const AddedToken& token) { return token.content == content; });
  if (found == tokens_.end()) return std::nullopt;
  return found->id;
}

std::uint32_t AddedTokens::end_id() const {
  std::uint32_t out = 0;
  for (const AddedToken& token : tokens_) out = std::max(out, token.id + 1);
  return out;
}

}  // namespace muster::text
