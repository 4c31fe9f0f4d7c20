// SPDX-License-Identifier: Apache-2.0
#include "text/token_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "muster/core/strings.h"

namespace muster::text {

bool TokenMap::insert(std::string_view token, std::uint32_t id) {
  if (2 * (entries_.size() + 1) > slots_.size()) grow();
  const std::uint64_t hash = hash_word(token);
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = hash & mask;
  for (; slots_[at].entry != 0; at = (at + 1) & mask) {
    if (slots_[at].tag == tag_of(hash) && this->token(entries_[slots_[at].entry - 1]) == token) return false;
  }
  entries_.push_back({bytes_.size(), static_cast<std::uint32_t>(token.size()), id});
  bytes_.append(token);
  longest_ = std::max(longest_, token.size());
  slots_[at] = {tag_of(hash), static_cast<std::uint32_t>(entries_.size())};
  return true;
}

std::optional<std::uint32_t> TokenMap::find(std::string_view token) const {
  if (slots_.empty()) return std::nullopt;
  const std::uint64_t hash = hash_word(token);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = hash & mask; slots_[at].entry != 0; at = (at + 1) & mask) {
    if (slots_[at].tag != tag_of(hash)) continue;
    const Entry& entry = entries_[slots_[at].entry - 1];
    if (this->token(entry) == token) return entry.id;
  }
  return std::nullopt;
}

void TokenMap::grow() {
  constexpr std::size_t kFirstSize = 64;
  slots_.assign(std::max(kFirstSize, 2 * slots_.size()), {});
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const std::uint64_t hash = hash_word(token(entries_[i]));
    std::size_t at = hash & mask;
    while (slots_[at].entry != 0) at = (at + 1) & mask;
    slots_[at] = {tag_of(hash), static_cast<std::uint32_t>(i + 1)};
  }
}

std::string Vocabulary::add(std::string_view token, std::uint32_t id) {
  constexpr std::uint32_t kMaxId = std::numeric_limits<std::int32_t>::max() - 1;
  if (id > kMaxId)
    return fmt::format("gives '{}' the id {}, the largest possible is {}", core::printable(token), id,
                       kMaxId);
  if (!tokens_.insert(token, id)) return fmt::format("has the token '{}' twice", core::printable(token));
  return {};
}

std::string Vocabulary::seal() {
  const auto& entries = tokens_.entries();
  if (entries.empty()) return "is empty";
  by_id_.resize(entries.size());
  std::iota(by_id_.begin(), by_id_.end(), 0u);
  std::sort(by_id_.begin(), by_id_.end(), [&](auto a, auto b) { return entries[a].id < entries[b].id; });
  for (std::size_t i = 1; i < by_id_.size(); ++i) {
    const auto &a = entries[by_id_[i - 1]], &b = entries[by_id_[i]];
    if (a.id == b.id) {
      return fmt::format("gives the id {} to both '{}' and '{}'", a.id, core::printable(tokens_.token(a)),
                         core::printable(tokens_.token(b)));
    }
  }
  end_id_ = entries[by_id_.back()].id + 1;
  return {};
}

std::optional<std::string_view> Vocabulary::token(std::uint32_t id) const {
  const auto& entries = tokens_.entries();
  const auto found =
      std::lower_bound(by_id_.begin(), by_id_.end(), id,
                       [&](std::uint32_t entry, std::uint32_t value) { return entries[entry].id < value; });
  if (found == by_id_.end() || entries[*found].id != id) return std::nullopt;
  return tokens_.token(entries[*found]);
}

}  // namespace muster::text
