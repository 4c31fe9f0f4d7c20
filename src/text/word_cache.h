// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "text/token_map.h"

namespace muster::text {

/// Remembers the ids of short words. An entry is one cache line, a set is two of them, the older one gives
/// way: a fixed 1 MB a scratch, no allocation, no clearing. Language is so uneven that nearly all words are
/// found.
class WordCache {
 public:
  WordCache() : lines_(2 * kSets) {}

  static bool fits(std::string_view word) { return word.size() <= kMaxBytes; }

  /// The ids of a word that fits, empty when it is not known.
  std::span<const std::uint32_t> find(std::string_view word, std::uint64_t hash) const {
    const Line* set = &lines_[2 * (hash % kSets)];
    if (set[0].holds(word)) return set[0].ids();
    if (set[1].holds(word)) return set[1].ids();
    return {};
  }

  void insert(std::string_view word, std::uint64_t hash, std::span<const std::uint32_t> ids) {
    if (ids.empty() || ids.size() > kMaxIds) return;
    Line* set = &lines_[2 * (hash % kSets)];
    set[1] = set[0];
    set[0].set(word, ids);
  }

 private:
  static constexpr std::size_t kSets = 8192, kMaxBytes = 30, kMaxIds = 8;

  struct alignas(64) Line {
    bool holds(std::string_view word) const {
      return word_size == word.size() && std::memcmp(bytes.data(), word.data(), word.size()) == 0;
    }
    std::span<const std::uint32_t> ids() const { return {values.data(), count}; }
    void set(std::string_view word, std::span<const std::uint32_t> ids) {
      word_size = static_cast<std::uint8_t>(word.size());
      count = static_cast<std::uint8_t>(ids.size());
      std::memcpy(bytes.data(), word.data(), word.size());
      std::memcpy(values.data(), ids.data(), ids.size_bytes());
    }

    std::array<std::uint32_t, kMaxIds> values{};
    std::array<char, kMaxBytes> bytes{};
    std::uint8_t word_size = 0;  ///< 0: free, words are not empty
    std::uint8_t count = 0;
  };
  static_assert(sizeof(Line) == 64);

  std::vector<Line> lines_;
};

}  // namespace muster::text
