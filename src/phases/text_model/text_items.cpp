// SPDX-License-Identifier: Apache-2.0
#include "phases/text_model/text_items.h"

#include <fmt/format.h>

#include <cstring>

#include "muster/core/error.h"
#include "muster/text/lower_case.h"

namespace muster::phases {

TextItems::TextItems(const std::string& folder, const models::EncoderDescription& description,
                     std::string prompt)
    : max_length_(description.max_length),
      lower_case_(description.lower_case),
      include_prompt_(description.include_prompt),
      prompt_(std::move(prompt)),
      id_bytes_(description.vocab <= 65536 ? sizeof(std::uint16_t) : sizeof(std::uint32_t)),
      tokenizer_(text::Tokenizer::load(tokenizer_folder(folder, description))) {
  if (tokenizer_.vocab_size() > description.vocab) {
    throw core::DataError(
        fmt::format("{}: the tokenizer gives ids up to {}, but the model has {} word embeddings; "
                    "tokenizer.json and the weights do not belong together",
                    folder, tokenizer_.vocab_size() - 1, description.vocab));
  }
}

void TextItems::prepare(std::string_view text, PreparedItem& out) const {
  thread_local text::Encoding encoding;
  thread_local std::string changed;
  if (!prompt_.empty()) text = changed.assign(prompt_).append(text);
  if (lower_case_) text = changed = text::lower_case(text);
  tokenizer_.encode(text, max_length_, encoding);
  out.length = static_cast<std::uint32_t>(encoding.ids.size());
  out.truncated = encoding.truncated();
  out.payload.resize(encoding.ids.size() * id_bytes_);
  if (id_bytes_ == sizeof(std::uint32_t)) {
    std::memcpy(out.payload.data(), encoding.ids.data(), out.payload.size());
    return;
  }
  for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
    const auto id = static_cast<std::uint16_t>(encoding.ids[i]);
    std::memcpy(out.payload.data() + i * sizeof id, &id, sizeof id);
  }
}

std::uint32_t TextItems::prompt_tokens() const {
  if (prompt_.empty() || include_prompt_) return 0;
  text::Encoding encoding;
  tokenizer_.encode(lower_case_ ? text::lower_case(prompt_) : prompt_, max_length_, encoding);
  return static_cast<std::uint32_t>(encoding.ids.size()) - 1;  // without the closing token
}

models::PackedTexts TextBatch::pack(std::span<const ItemView> batch) {
  ids_.clear();
  lengths_.clear();
  for (const auto& item : batch) {
    append(item.payload);
    lengths_.push_back(item.length);
  }
  return {ids_, lengths_, prompt_tokens_};
}

void TextBatch::append(std::span<const std::byte> payload) {
  const std::size_t count = payload.size() / id_bytes_, begin = ids_.size();
  ids_.resize(begin + count);
  if (id_bytes_ == sizeof(std::uint32_t)) {
    std::memcpy(ids_.data() + begin, payload.data(), payload.size());
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t id;
    std::memcpy(&id, payload.data() + i * sizeof id, sizeof id);
    ids_[begin + i] = id;
  }
}

void TextBatch::release_memory() {
  ids_ = {};
}

plan::CutConfig text_cut(const config::Config& config, const plan::CostModel& cost) {
  plan::CutConfig cut;
  cut.batch_tokens = static_cast<std::uint64_t>(config.integer("run.batch_tokens"));
  cut.batch_items =
      static_cast<std::uint32_t>(config.is_auto("run.batch_size") ? 0 : config.integer("run.batch_size"));
  cut.cost = cost;
  return cut;
}

}  // namespace muster::phases
