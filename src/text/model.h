// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "muster/formats/json.h"
#include "text/token_map.h"

namespace muster::text {

/// A part of a word on its way through byte-pair merges: a doubly linked list in an array.
struct Symbol {
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  std::uint32_t id;
  std::uint32_t previous, next;  ///< indices
  bool merged_away = false;
};
struct MergeCandidate {
  std::uint32_t rank, position, merged_id;
};

struct ModelScratch {
  std::vector<Symbol> symbols;
  std::vector<MergeCandidate> candidates;
  std::string piece;
};

/// The "model" section: a word to the ids of its parts.
class Model {
 public:
  explicit Model(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}
  virtual ~Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  /// Appends the ids of a word that is not empty.
  virtual void tokenize(std::string_view word, ModelScratch& scratch,
                        std::vector<std::uint32_t>& ids) const = 0;
  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  Vocabulary vocabulary_;
};

/// {"token": id, ...}; DataError when it is damaged.
Vocabulary vocabulary_from_json(const formats::JsonValue& section);
/// DataError for models that are not supported or whose vocabulary is damaged.
std::unique_ptr<Model> model_from_json(const formats::JsonValue& section);

}  // namespace muster::text
