// SPDX-License-Identifier: Apache-2.0
#include "muster/text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/error.h"
#include "text/tokenizer_impl.h"

namespace muster::text {

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

void Tokenizer::encode(std::string_view text, std::uint32_t max_length, Encoding& out) const {
  const std::size_t special = impl_->post_processor.size();
  if (max_length < special) {
    throw core::ConfigError(
        fmt::format("tokenizer: a maximum of {} tokens has no room for the {} special tokens of every text",
                    max_length, special));
  }
  auto scratch = impl_->scratch_pool.take();
  impl_->encode_text(text, *scratch);
  const auto& ids = scratch->ids;
  const auto& before = impl_->post_processor.before();
  const auto& after = impl_->post_processor.after();
  out.full_length = static_cast<std::uint32_t>(ids.size() + special);
  const std::size_t kept = std::min(ids.size(), max_length - special);
  out.ids.clear();
  out.ids.reserve(kept + special);
  out.ids.insert(out.ids.end(), before.begin(), before.end());
  out.ids.insert(out.ids.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(kept));
  out.ids.insert(out.ids.end(), after.begin(), after.end());
  impl_->scratch_pool.give_back(std::move(scratch));
}

std::uint32_t Tokenizer::vocab_size() const {
  return std::max(impl_->model->vocabulary().end_id(), impl_->added_tokens.end_id());
}

std::uint32_t Tokenizer::special_tokens_count() const {
  return static_cast<std::uint32_t>(impl_->post_processor.size());
}

SpecialIds Tokenizer::special_ids() const {
  const auto first = [](const std::vector<std::uint32_t>& ids) {
    return ids.empty() ? std::nullopt : std::optional(ids.front());
  };
  return {first(impl_->post_processor.before()), first(impl_->post_processor.after()), impl_->pad_id};
}

std::string Tokenizer::id_to_token(std::uint32_t id) const {
  const auto token = impl_->token(id);
  if (!token) {
    throw core::DataError(fmt::format(
        "tokenizer: there is no token with the id {} (the vocabulary ends at {})", id, vocab_size()));
  }
  return std::string(*token);
}

std::unique_ptr<EncodeScratch> ScratchPool::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      auto out = std::move(free_.back());
      free_.pop_back();
      return out;
    }
  }
  return std::make_unique<EncodeScratch>();
}

void ScratchPool::give_back(std::unique_ptr<EncodeScratch> scratch) {
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(scratch));
}

void Tokenizer::Impl::encode_text(std::string_view text, EncodeScratch& scratch) const {
  scratch.ids.clear();
  added_tokens.split(text, MatchOn::kRawText, scratch.raw_segments);
  for (const Segment& raw : scratch.raw_segments) {
    if (raw.id) {
      scratch.ids.push_back(*raw.id);
      continue;
    }
    const std::string_view normalized =
        normalizer.apply(text.substr(raw.begin, raw.end - raw.begin), scratch.normalizer);
    added_tokens.split(normalized, MatchOn::kNormalizedText, scratch.normalized_segments);
    for (const Segment& segment : scratch.normalized_segments) {
      if (segment.id) {
        scratch.ids.push_back(*segment.id);
      } else {
        encode_segment(normalized.substr(segment.begin, segment.end - segment.begin), scratch);
      }
    }
  }
}

void Tokenizer::Impl::encode_segment(std::string_view text, EncodeScratch& scratch) const {
  const Words words = pre_tokenizer.split(text, scratch.pre_tokenizer);
  auto& ids = scratch.ids;
  for (const Piece& piece : words.pieces) {
    const std::string_view word = piece.of(words.text);
    if (!WordCache::fits(word)) {
      model->tokenize(word, scratch.model, ids);
      continue;
    }
    const std::uint64_t hash = hash_word(word);
    const auto known = scratch.cache.find(word, hash);
    if (!known.empty()) {
      ids.insert(ids.end(), known.begin(), known.end());
      continue;
    }
    const std::size_t first = ids.size();
    model->tokenize(word, scratch.model, ids);
    scratch.cache.insert(word, hash, std::span(ids).subspan(first));
  }
}

std::optional<std::string_view> Tokenizer::Impl::token(std::uint32_t id) const {
  const auto added = added_tokens.token(id);
  return added ? added : model->vocabulary().token(id);
}

}  // namespace muster::text
