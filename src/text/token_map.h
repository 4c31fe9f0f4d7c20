// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace muster::text {

/// Hash of a word: a few multiplications, whole words of memory only.
inline std::uint64_t hash_word(std::string_view word) {
  const auto load = [](const char* at, std::size_t size) {
    std::uint64_t out = 0;
    if (size == 8) {
      std::memcpy(&out, at, 8);
    } else if (size == 4) {
      std::uint32_t half;
      std::memcpy(&half, at, 4);
      out = half;
    }
    return out;
  };
  const auto fold = [](std::uint64_t a, std::uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  };
  constexpr std::uint64_t kA = 0x9E3779B97F4A7C15ull, kB = 0xD6E8FEB86659FD93ull;
  const char* bytes = word.data();
  std::size_t size = word.size();
  std::uint64_t hash = kA ^ size;
  for (; size > 16; size -= 8, bytes += 8) hash = fold(hash ^ load(bytes, 8), kB);
  std::uint64_t head = 0, tail = 0;  // they overlap, so that no byte is loaded alone
  if (size >= 8) {
    head = load(bytes, 8);
    tail = load(bytes + size - 8, 8);
  } else if (size >= 4) {
    head = load(bytes, 4);
    tail = load(bytes + size - 4, 4);
  } else if (size > 0) {
    const auto at = [&](std::size_t i) {
      return static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i]));
    };
    head = at(0) | at(size / 2) << 8 | at(size - 1) << 16;
  }
  return fold(hash ^ head, tail ^ kB);
}

/// Strings to ids: one flat table with open addressing, the strings in one block.
class TokenMap {
 public:
  struct Entry {
    std::size_t offset;
    std::uint32_t size;
    std::uint32_t id;
  };

  /// False when the token is there already; the map stays as it was.
  bool insert(std::string_view token, std::uint32_t id);
  std::optional<std::uint32_t> find(std::string_view token) const;
  std::size_t size() const { return entries_.size(); }
  const std::vector<Entry>& entries() const { return entries_; }
  std::string_view token(const Entry& entry) const { return {bytes_.data() + entry.offset, entry.size}; }
  /// Bytes of the longest token.
  std::size_t longest() const { return longest_; }

 private:
  struct Slot {
    std::uint32_t tag = 0;
    std::uint32_t entry = 0;  ///< index + 1, 0 means free
  };
  static std::uint32_t tag_of(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32); }
  void grow();

  std::string bytes_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;
  std::size_t longest_ = 0;
};

/// The vocabulary of a model: tokens to ids and back, each once.
class Vocabulary {
 public:
  /// Why a token cannot be added; empty when it was.
  std::string add(std::string_view token, std::uint32_t id);
  /// To be called after the last add(): empty, or what is wrong with the ids.
  std::string seal();

  const TokenMap& tokens() const { return tokens_; }
  std::optional<std::uint32_t> find(std::string_view token) const { return tokens_.find(token); }
  std::optional<std::string_view> token(std::uint32_t id) const;
  std::size_t size() const { return tokens_.size(); }
  /// One past the largest id.
  std::uint32_t end_id() const { return end_id_; }

 private:
  TokenMap tokens_;
  std::vector<std::uint32_t> by_id_;  ///< entries in the order of their ids
  std::uint32_t end_id_ = 0;
};

}  // namespace muster::text
