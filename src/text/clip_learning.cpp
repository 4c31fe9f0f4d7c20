// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "muster/text/clip_vocabulary.h"
#include "muster/text/lower_case.h"
#include "text/splitters.h"

namespace muster::text {
namespace {

constexpr std::string_view kWordEnd = "</w>";
constexpr std::uint32_t kBytes = 256;

/// A word as symbols, and how often it occurs.
struct Word {
  std::vector<std::uint32_t> symbols;
  std::uint64_t count = 0;
};

using Pair = std::pair<std::uint32_t, std::uint32_t>;

// CLIP's own list: first the bytes that are characters of their own in Latin-1, then the others.
std::vector<std::uint8_t> byte_order() {
  const auto is_printable = [](int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
  };
  std::vector<std::uint8_t> order;
  for (const bool printable : {true, false})
    for (int byte = 0; byte < static_cast<int>(kBytes); ++byte)
      if (is_printable(byte) == printable) order.push_back(static_cast<std::uint8_t>(byte));
  return order;
}

std::string mapped_byte(std::uint8_t byte) {
  PreTokenizerScratch scratch;
  const char text[] = {static_cast<char>(byte)};
  scratch.pieces = {{0, 1}};
  const std::string_view mapped = map_bytes({text, 1}, scratch);
  return std::string(scratch.pieces.front().of(mapped));
}

class Learner {
 public:
  Learner() {
    for (const std::uint8_t byte : byte_order()) {
      symbol_of_byte_[byte] = static_cast<std::uint32_t>(symbols_.size());
      symbols_.push_back(mapped_byte(byte));
    }
    for (std::uint32_t i = 0; i < kBytes; ++i) symbols_.push_back(symbols_[i] + std::string(kWordEnd));
  }

  void count(const std::string& text) {
    const std::string lower = lower_case(text);
    std::vector<Match> matches;
    match_clip(lower, {0, lower.size()}, ClipTokens::kAsText, matches);
    for (const Match& match : matches)
      if (match.is_match) ++counts_[lower.substr(match.begin, match.end - match.begin)];
  }

  void learn(std::uint32_t most) {
    for (const auto& [text, count] : counts_) {
      Word word{.symbols = {}, .count = count};
      for (const char byte : text) word.symbols.push_back(symbol_of_byte_[static_cast<std::uint8_t>(byte)]);
      word.symbols.back() += kBytes;
      words_.push_back(std::move(word));
    }
    while (symbols_.size() + 2 < most) {
      const auto best = most_frequent();
      if (!best) break;
      merge(*best);
    }
  }

  ClipVocabulary result() const {
    ClipVocabulary out;
    std::vector<std::string> tokens = symbols_;
    tokens.emplace_back("<|startoftext|>");
    tokens.emplace_back("<|endoftext|>");
    out.size = static_cast<std::uint32_t>(tokens.size());
    for (std::uint32_t id = 0; id < out.size; ++id)
      out.vocabulary += fmt::format("{}{}: {}", id == 0 ? "{" : ", ", core::json_quote(tokens[id]), id);
    out.vocabulary += "}\n";
    out.merges = "#version: 0.2\n";
    for (const auto& [left, right] : merges_) out.merges += symbols_[left] + " " + symbols_[right] + "\n";
    return out;
  }

 private:
  std::optional<Pair> most_frequent() const {
    std::map<Pair, std::uint64_t> pairs;
    for (const Word& word : words_)
      for (std::size_t i = 1; i < word.symbols.size(); ++i)
        pairs[{word.symbols[i - 1], word.symbols[i]}] += word.count;
    const std::pair<const Pair, std::uint64_t>* best = nullptr;
    const auto before = [&](const Pair& a, const Pair& b) {
      return std::tie(symbols_[a.first], symbols_[a.second]) <
             std::tie(symbols_[b.first], symbols_[b.second]);
    };
    for (const auto& pair : pairs) {
      if (pair.second < 2) continue;
      if (best == nullptr || pair.second > best->second ||
          (pair.second == best->second && before(pair.first, best->first)))
        best = &pair;
    }
    return best == nullptr ? std::nullopt : std::optional(best->first);
  }

  void merge(const Pair& pair) {
    const auto merged = static_cast<std::uint32_t>(symbols_.size());
    symbols_.push_back(symbols_[pair.first] + symbols_[pair.second]);
    merges_.push_back(pair);
    for (Word& word : words_) {
      auto& symbols = word.symbols;
      std::size_t kept = 0;
      for (std::size_t i = 0; i < symbols.size(); ++i, ++kept) {
        const bool both = i + 1 < symbols.size() && symbols[i] == pair.first && symbols[i + 1] == pair.second;
        symbols[kept] = both ? merged : symbols[i];
        if (both) ++i;
      }
      symbols.resize(kept);
    }
  }

  std::map<std::string, std::uint64_t> counts_;
  std::vector<std::string> symbols_;  ///< by id
  std::uint32_t symbol_of_byte_[kBytes] = {};
  std::vector<Word> words_;
  std::vector<Pair> merges_;
};

}  // namespace

ClipVocabulary learn_clip_vocabulary(std::span<const std::string> texts, std::uint32_t most) {
  core::internal_check(most >= kLeastClipVocabulary, "a CLIP vocabulary has room for all bytes");
  Learner learner;
  for (const std::string& text : texts) learner.count(text);
  learner.learn(most);
  return learner.result();
}

}  // namespace muster::text
