// SPDX-License-Identifier: Apache-2.0
#include "text/byte_pair.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/strings.h"
#include "text/utf8.h"

namespace muster::text {

void MergeTable::set(std::uint32_t left, std::uint32_t right, Merge merge) {
  if (2 * (used_ + 1) > slots_.size()) grow();
  Slot& slot = slots_[place_of(key(left, right))];
  used_ += slot.pair == kFree;
  slot = {key(left, right), merge};
}

const MergeTable::Merge* MergeTable::find(std::uint32_t left, std::uint32_t right) const {
  if (slots_.empty()) return nullptr;
  const Slot& slot = slots_[place_of(key(left, right))];
  return slot.pair == kFree ? nullptr : &slot.merge;
}

std::size_t MergeTable::place_of(std::uint64_t pair) const {
  const std::size_t mask = slots_.size() - 1;
  const auto product = static_cast<unsigned __int128>(pair ^ (pair >> 32)) * 0x9E3779B97F4A7C15ull;
  std::size_t at = static_cast<std::size_t>(product >> 32) & mask;
  while (slots_[at].pair != kFree && slots_[at].pair != pair) at = (at + 1) & mask;
  return at;
}

void MergeTable::grow() {
  constexpr std::size_t kFirstSize = 64;
  std::vector<Slot> old(std::max(kFirstSize, 2 * slots_.size()));
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.pair != kFree) slots_[place_of(slot.pair)] = slot;
  }
}

BytePair::BytePair(Vocabulary vocabulary, BytePairOptions options, MergeTable merges)
    : Model(std::move(vocabulary)), options_(std::move(options)), merges_(std::move(merges)) {}

void BytePair::tokenize(std::string_view word, ModelScratch& scratch, std::vector<std::uint32_t>& ids) const {
  if (options_.whole_words == WholeWords::kLookedUpFirst) {
    if (const auto id = vocabulary().find(word)) {
      ids.push_back(*id);
      return;
    }
  }
  start_symbols(word, scratch);
  merge_all(scratch);
  for (const Symbol& symbol : scratch.symbols) {
    if (!symbol.merged_away) ids.push_back(symbol.id);
  }
}

void BytePair::start_symbols(std::string_view word, ModelScratch& scratch) const {
  auto& symbols = scratch.symbols;
  symbols.clear();
  bool last_is_unknown = false;
  for (std::size_t i = 0; i < word.size();) {
    const std::size_t begin = i;
    next_char(word, i);
    std::string_view piece = word.substr(begin, i - begin);
    const bool prefixed = begin > 0 && !options_.continuing_prefix.empty();
    const bool suffixed = i == word.size() && !options_.end_of_word_suffix.empty();
    if (prefixed || suffixed) {
      scratch.piece.assign(prefixed ? options_.continuing_prefix : "").append(piece);
      if (suffixed) scratch.piece.append(options_.end_of_word_suffix);
      piece = scratch.piece;
    }
    auto id = vocabulary().find(piece);
    const bool unknown = !id;
    if (unknown) {
      if (!options_.unknown_id) continue;
      if (last_is_unknown && options_.unknown_runs == UnknownRuns::kFused) continue;
      id = options_.unknown_id;
    }
    last_is_unknown = unknown;
    const auto index = static_cast<std::uint32_t>(symbols.size());
    if (index > 0) symbols.back().next = index;
    symbols.push_back({*id, index > 0 ? index - 1 : Symbol::kNone, Symbol::kNone});
  }
}

namespace {

/// The heap's order: the lowest rank first, and of equal ones the leftmost.
bool later(const MergeCandidate& a, const MergeCandidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

void BytePair::propose(std::uint32_t position, ModelScratch& scratch) const {
  const Symbol& left = scratch.symbols[position];
  if (left.next == Symbol::kNone) return;
  const auto* merge = merges_.find(left.id, scratch.symbols[left.next].id);
  if (merge == nullptr) return;
  scratch.candidates.push_back({merge->rank, position, merge->id});
  std::push_heap(scratch.candidates.begin(), scratch.candidates.end(), later);
}

void BytePair::merge_all(ModelScratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& candidates = scratch.candidates;
  candidates.clear();
  for (std::uint32_t i = 0; i + 1 < symbols.size(); ++i) propose(i, scratch);
  while (!candidates.empty()) {
    std::pop_heap(candidates.begin(), candidates.end(), later);
    const MergeCandidate top = candidates.back();
    candidates.pop_back();
    Symbol& left = symbols[top.position];
    if (left.merged_away || left.next == Symbol::kNone) continue;
    Symbol& right = symbols[left.next];
    const auto* merge = merges_.find(left.id, right.id);
    if (merge == nullptr || merge->id != top.merged_id) continue;  // an earlier merge took one of the two
    left.id = top.merged_id;
    left.next = right.next;
    right.merged_away = true;
    if (left.next != Symbol::kNone) symbols[left.next].previous = top.position;
    if (left.previous != Symbol::kNone) propose(left.previous, scratch);
    propose(top.position, scratch);
  }
}

namespace {

/// `place` says where a token is needed, and fails.
std::uint32_t known(const Vocabulary& vocabulary, std::string_view token, const auto& place) {
  const auto id = vocabulary.find(token);
  if (!id)
    place.fail(fmt::format("needs the token '{}', which is not in the vocabulary", core::printable(token)));
  return *id;
}

/// A line of a text file.
struct LinePlace {
  const std::string& path;
  std::size_t line;
  [[noreturn]] void fail(std::string_view problem) const {
    throw core::DataError(fmt::format("{}:{}: the merge {}", path, line, problem));
  }
};

/// "left right"
std::pair<std::string_view, std::string_view> split_merge(std::string_view text, const auto& place) {
  const auto space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
    place.fail("is not two tokens with a space between them");
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

/// "left right" or ["left", "right"].
std::pair<std::string, std::string> merge_pair(const formats::JsonValue& merge) {
  if (merge.is_array()) {
    if (merge.size() != 2) merge.fail("is not a pair of tokens");
    return {merge.element(0).as<std::string>(), merge.element(1).as<std::string>()};
  }
  const auto [left, right] = split_merge(merge.view(), merge);
  return {std::string(left), std::string(right)};
}

MergeTable merges_from_json(const formats::JsonValue& list, const Vocabulary& vocabulary,
                            std::string_view prefix) {
  MergeTable out;
  std::uint32_t rank = 0;
  for (const auto& merge : list.elements()) {
    if (merge.is_string() && merge.view().starts_with("#version")) continue;
    const auto [left, right] = merge_pair(merge);
    if (right.size() < prefix.size()) merge.fail("has a right token without the continuing_subword_prefix");
    const std::uint32_t left_id = known(vocabulary, left, merge), right_id = known(vocabulary, right, merge);
    out.set(left_id, right_id, {rank++, known(vocabulary, left + right.substr(prefix.size()), merge)});
  }
  return out;
}

}  // namespace

MergeTable merges_from_text(const std::string& path, const Vocabulary& vocabulary) {
  constexpr std::uint64_t kMaxBytes = std::uint64_t{64} << 20;
  const std::string content = core::read_file(path, kMaxBytes);
  auto lines = core::split(content, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  MergeTable out;
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::string_view line = lines[i];
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("#version")) continue;
    const LinePlace place{path, i + 1};
    const auto [left, right] = split_merge(line, place);
    const std::uint32_t left_id = known(vocabulary, left, place), right_id = known(vocabulary, right, place);
    const std::string joined = std::string(left).append(right);
    out.set(left_id, right_id, {rank++, known(vocabulary, joined, place)});
  }
  return out;
}

std::unique_ptr<Model> byte_pair_from_json(const formats::JsonValue& section, Vocabulary vocabulary) {
  if (const auto dropout = section.find("dropout");
      dropout && !dropout->is_null() && dropout->as<double>() != 0) {
    dropout->fail("is set, but the ids of a text shall not be random; set it to null");
  }
  if (section.get_or<bool>("byte_fallback", false)) {
    section.at("byte_fallback").fail("is true, which is not supported by the byte-pair model");
  }
  BytePairOptions options;
  options.continuing_prefix = section.get_or<std::string>("continuing_subword_prefix", "");
  options.end_of_word_suffix = section.get_or<std::string>("end_of_word_suffix", "");
  if (section.get_or<bool>("fuse_unk", false)) options.unknown_runs = UnknownRuns::kFused;
  if (section.get_or<bool>("ignore_merges", false)) options.whole_words = WholeWords::kLookedUpFirst;
  if (const auto unknown = section.find("unk_token"); unknown && !unknown->is_null()) {
    options.unknown_id = known(vocabulary, unknown->view(), *unknown);
  }
  MergeTable merges = merges_from_json(section.at("merges"), vocabulary, options.continuing_prefix);
  return std::make_unique<BytePair>(std::move(vocabulary), std::move(options), std::move(merges));
}

}  // namespace muster::text
