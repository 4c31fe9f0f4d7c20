// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>

#include "text/model.h"

namespace muster::text {

enum class UnknownRuns : std::uint8_t { kEachCharacter, kFused };
enum class WholeWords : std::uint8_t { kMerged, kLookedUpFirst };

struct BytePairOptions {
  std::optional<std::uint32_t> unknown_id;  ///< absent: characters that are not in the vocabulary vanish
  UnknownRuns unknown_runs = UnknownRuns::kEachCharacter;
  WholeWords whole_words = WholeWords::kMerged;
  std::string continuing_prefix, end_of_word_suffix;
};

/// What two neighbouring symbols become, and how early.
class MergeTable {
 public:
  struct Merge {
    std::uint32_t rank, id;
  };
  /// The last of several merges of one pair counts.
  void set(std::uint32_t left, std::uint32_t right, Merge merge);
  const Merge* find(std::uint32_t left, std::uint32_t right) const;

 private:
  struct Slot {
    std::uint64_t pair = kFree;
    Merge merge{};
  };
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};  // ids stay below 2^31
  static std::uint64_t key(std::uint32_t left, std::uint32_t right) {
    return std::uint64_t{left} << 32 | right;
  }
  std::size_t place_of(std::uint64_t pair) const;
  void grow();

  std::vector<Slot> slots_;
  std::size_t used_ = 0;
};

/// Byte-pair encoding (GPT-2, RoBERTa): the characters of a word, merged pair by pair in the order of the
/// merge list.
class BytePair final : public Model {
 public:
  BytePair(Vocabulary vocabulary, BytePairOptions options, MergeTable merges);
  void tokenize(std::string_view word, ModelScratch& scratch, std::vector<std::uint32_t>& ids) const override;

 private:
  void start_symbols(std::string_view word, ModelScratch& scratch) const;
  void propose(std::uint32_t position, ModelScratch& scratch) const;
  void merge_all(ModelScratch& scratch) const;

  BytePairOptions options_;
  MergeTable merges_;
};

/// merges.txt: a merge a line, "left right", behind a line that names the version.
MergeTable merges_from_text(const std::string& path, const Vocabulary& vocabulary);

std::unique_ptr<Model> byte_pair_from_json(const formats::JsonValue& section, Vocabulary vocabulary);

}  // namespace muster::text
