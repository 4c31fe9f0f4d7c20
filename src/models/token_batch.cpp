// SPDX-License-Identifier: Apache-2.0
#include "models/token_batch.h"

#include <ATen/Functions.h>
#include <fmt/format.h>

#include <algorithm>

#include "muster/core/error.h"
#include "muster/nn/tiles.h"

namespace muster::models {
namespace {

void write_positions(std::span<const std::uint32_t> ids, const PositionRule& rule, std::int64_t* out) {
  std::int64_t next = rule.first;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const bool is_padding = rule.padding_id && ids[i] == *rule.padding_id;
    out[i] = is_padding ? static_cast<std::int64_t>(*rule.padding_id) : next++;
  }
}

struct TokenRows {
  at::Tensor ids, positions;  // int64 [rows], zero behind the last text
};

TokenRows make_rows(const PackedTexts& texts, const PositionRule& rule, std::int64_t rows,
                    const c10::Device& device) {
  const at::Tensor ids = at::zeros({rows}, c10::ScalarType::Long);
  const at::Tensor positions = at::zeros({rows}, c10::ScalarType::Long);
  std::copy(texts.ids.begin(), texts.ids.end(), ids.mutable_data_ptr<std::int64_t>());
  std::size_t at = 0;
  for (const std::uint32_t length : texts.lengths) {
    write_positions(texts.ids.subspan(at, length), rule, positions.mutable_data_ptr<std::int64_t>() + at);
    at += length;
  }
  return {ids.to(device), positions.to(device)};
}

}  // namespace

void check_texts(const PackedTexts& texts, const TransformerFacts& facts) {
  std::size_t at = 0;
  for (std::size_t text = 0; text < texts.lengths.size(); ++text) {
    const std::uint32_t length = texts.lengths[text];
    if (length < 1 || length > facts.max_positions)
      throw core::DataError(fmt::format("text {} of the batch has {} tokens; the model takes 1 to {}", text,
                                        length, facts.max_positions));
    core::internal_check(length <= texts.ids.size() - at,
                         "packed texts: lengths add up to more than there are ids");
    const auto ids = texts.ids.subspan(at, length);
    const auto highest = *std::max_element(ids.begin(), ids.end());
    if (highest >= facts.vocab)
      throw core::DataError(
          fmt::format("text {} of the batch has token id {}, but the model's vocab_size is {}; is this the "
                      "right tokenizer?",
                      text, highest, facts.vocab));
    at += length;
  }
  core::internal_check(at == texts.ids.size(), "packed texts: lengths add up to fewer than there are ids");
}

TokenBatch make_token_batch(const PackedTexts& texts, const PositionRule& rule,
                            const nn::ComputeTarget& target) {
  const std::int64_t rows = nn::padded_rows(static_cast<std::int64_t>(texts.ids.size()), target);
  auto [ids, positions] = make_rows(texts, rule, rows, target.device);
  return {std::move(ids), std::move(positions), nn::runs_of_equal_length(texts.lengths), {}};
}

TrainingBatch make_training_batch(const TrainingTexts& texts, const PositionRule& rule,
                                  const nn::ComputeTarget& target) {
  const PackedTexts& packed = texts.texts;
  core::internal_check(texts.items.size() == packed.lengths.size(), "every text to train on is an item");
  auto described = std::make_shared<nn::trainable::Texts>();
  described->lengths.assign(packed.lengths.begin(), packed.lengths.end());
  described->items.assign(texts.items.begin(), texts.items.end());
  described->runs = nn::runs_of_equal_length(packed.lengths);
  described->rows = static_cast<std::int64_t>(packed.ids.size());
  auto [ids, positions] = make_rows(packed, rule, described->rows, target.device);
  return {std::move(ids), std::move(positions), std::move(described), texts.randomness};
}

}  // namespace muster::models
