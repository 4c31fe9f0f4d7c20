// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/models/text_encoder.h"
#include "muster/phases/item_phase.h"
#include "muster/text/tokenizer.h"
#include "phases/text_model/model_choice.h"

namespace muster::phases {

/// Texts to token ids that travel as an item's payload: two bytes an id where the vocabulary allows it.
class TextItems {
 public:
  /// The tokenizer of the model's folder; DataError when it gives ids that the model has no embedding for.
  /// `prompt` is put before every text.
  TextItems(const std::string& folder, const models::EncoderDescription& description,
            std::string prompt = "");

  /// Safe from several threads.
  void prepare(std::string_view text, PreparedItem& out) const;
  /// Tokens that the prompt takes at the start of every text, its own and the special ones before it; 0 when
  /// they are pooled like all others.
  std::uint32_t prompt_tokens() const;
  std::size_t id_bytes() const { return id_bytes_; }

 private:
  std::uint32_t max_length_;
  bool lower_case_, include_prompt_;
  std::string prompt_;
  std::size_t id_bytes_;
  text::Tokenizer tokenizer_;
};

/// A worker's copy of a micro-batch, as models take it.
class TextBatch {
 public:
  TextBatch(std::size_t id_bytes, std::uint32_t prompt_tokens)
      : id_bytes_(id_bytes), prompt_tokens_(prompt_tokens) {}
  /// Valid until the next call.
  models::PackedTexts pack(std::span<const ItemView> batch);
  void release_memory();

 private:
  void append(std::span<const std::byte> payload);

  std::size_t id_bytes_;
  std::uint32_t prompt_tokens_;
  std::vector<std::uint32_t> ids_, lengths_;
};

/// Micro-batches by tokens, or of run.batch_size texts.
plan::CutConfig text_cut(const config::Config& config, const plan::CostModel& cost);

}  // namespace muster::phases
