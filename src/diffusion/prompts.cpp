// SPDX-License-Identifier: Apache-2.0
#include "diffusion/prompts.h"

#include <ATen/Functions.h>

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "muster/core/checked.h"
#include "muster/core/error.h"

namespace muster::diffusion {
namespace {

/// Of encodings that are kept: some hundred prompts of SDXL.
constexpr std::size_t kMostBytes = std::size_t{128} << 20;
constexpr std::uint32_t kSpecialTokens = 2;  // in front of a prompt and behind it

std::uint32_t needed(const std::optional<std::uint32_t>& id, const std::string& folder, const char* what) {
  if (!id)
    throw core::DataError(
        fmt::format("{}: the tokenizer has no {} token; is it a CLIP tokenizer?", folder, what));
  return *id;
}

}  // namespace

PromptTokens::PromptTokens(const models::DiffusionFolder& folder, LongPrompt long_prompt)
    : long_prompt_(long_prompt), positions_(static_cast<std::uint32_t>(folder.prompt_tokens)) {
  for (std::size_t i = 0; i < folder.tokenizer_folders.size(); ++i) {
    const std::string path = folder.path + "/" + folder.tokenizer_folders[i];
    auto tokenizer = text::Tokenizer::load(path);
    const text::SpecialIds special = tokenizer.special_ids();
    const std::uint32_t end = needed(special.end, path, "end");
    if (tokenizer.vocab_size() > folder.text_encoders[i].vocab)
      throw core::DataError(fmt::format(
          "{}: ids up to {}, but {}/config.json has vocab_size {}; do they belong together?", path,
          tokenizer.vocab_size() - 1, folder.text_encoder_folders[i], folder.text_encoders[i].vocab));
    tokenizers_.push_back(
        {std::move(tokenizer), needed(special.begin, path, "begin"), end, special.pad.value_or(end)});
  }
}

PromptLength PromptTokens::length(const std::string& prompt) const {
  PromptLength out{0, positions_};
  text::Encoding encoding;
  for (const One& one : tokenizers_) {
    one.tokenizer.encode(prompt, positions_, encoding);
    out.tokens = std::max(out.tokens, encoding.full_length);
  }
  return out;
}

std::size_t PromptTokens::chunks(const std::string& prompt) const {
  if (long_prompt_ == LongPrompt::kTruncate) return 1;
  const std::uint32_t own = length(prompt).tokens - kSpecialTokens, room = positions_ - kSpecialTokens;
  return std::max<std::uint32_t>(1, core::ceil_div(own, room));
}

std::vector<std::uint32_t> PromptTokens::own_ids(const One& one, const std::string& prompt,
                                                 std::uint32_t most) const {
  text::Encoding encoding;
  one.tokenizer.encode(prompt, most, encoding);
  return {encoding.ids.begin() + 1, encoding.ids.end() - 1};
}

at::Tensor PromptTokens::ids(const std::string& prompt, std::size_t tokenizer, std::size_t chunks) const {
  const One& one = tokenizers_.at(tokenizer);
  const std::size_t room = positions_ - kSpecialTokens;
  const auto own = own_ids(one, prompt, static_cast<std::uint32_t>(chunks * room + kSpecialTokens));
  const auto rows = static_cast<std::int64_t>(chunks), columns = static_cast<std::int64_t>(positions_);
  at::Tensor out = at::full({rows, columns}, static_cast<std::int64_t>(one.pad), c10::ScalarType::Long);
  auto* id = out.mutable_data_ptr<std::int64_t>();
  for (std::size_t chunk = 0; chunk < chunks; ++chunk, id += positions_) {
    const std::size_t from = std::min(chunk * room, own.size()), to = std::min(from + room, own.size());
    id[0] = one.begin;
    std::copy(own.begin() + static_cast<std::ptrdiff_t>(from), own.begin() + static_cast<std::ptrdiff_t>(to),
              id + 1);
    id[1 + to - from] = one.end;
  }
  return out;
}

std::size_t PromptEncoding::bytes() const {
  return hidden.nbytes() + (pooled.defined() ? pooled.nbytes() : 0);
}

PromptEncoder::PromptEncoder(std::shared_ptr<Parts> parts, const models::DiffusionFolder& folder,
                             LongPrompt long_prompt)
    : parts_(std::move(parts)), kind_(folder.kind), tokens_(folder, long_prompt) {}

bool PromptEncoder::find(const Key& key, PromptEncoding& out) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find(key);
  if (place == places_.end()) return false;
  entries_.splice(entries_.begin(), entries_, place->second);
  out = place->second->encoding;
  return true;
}

void PromptEncoder::keep(const Key& key, const PromptEncoding& encoding) {
  const std::lock_guard lock(mutex_);
  if (places_.contains(key)) return;  // another worker was faster
  entries_.push_front({key, encoding});
  places_[key] = entries_.begin();
  bytes_ += encoding.bytes();
  while (bytes_ > kMostBytes && entries_.size() > 1) {
    bytes_ -= entries_.back().encoding.bytes();
    places_.erase(entries_.back().key);
    entries_.pop_back();
  }
}

void PromptEncoder::clear() {
  const std::lock_guard lock(mutex_);
  places_.clear();
  entries_.clear();
  bytes_ = 0;
}

std::vector<PromptEncoding> PromptEncoder::encode(std::span<const std::string> prompts, std::size_t chunks) {
  std::map<Key, PromptEncoding> known;
  std::set<Key> unknown;
  for (const std::string& prompt : prompts) {
    const Key key{prompt, chunks};
    if (known.contains(key) || unknown.contains(key)) continue;
    if (PromptEncoding encoding; find(key, encoding))
      known[key] = encoding;
    else
      unknown.insert(key);
  }
  const std::vector<Key> keys(unknown.begin(), unknown.end());
  const auto computed = compute(keys);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    keep(keys[i], computed[i]);
    known[keys[i]] = computed[i];
  }
  std::vector<PromptEncoding> out;
  for (const std::string& prompt : prompts) out.push_back(known.at({prompt, chunks}));
  return out;
}

// SD reads the last states behind the final norm, SDXL those before the last layer of both encoders, side by
// side, and the second's pooled projection (of the first chunk).
std::vector<PromptEncoding> PromptEncoder::compute(std::span<const Key> keys) const {
  constexpr auto kFloat = c10::ScalarType::Float;
  std::vector<PromptEncoding> out(keys.size());
  if (keys.empty()) return out;
  const bool xl = kind_ == models::PipelineKind::kStableDiffusionXL;
  for (std::size_t encoder = 0; encoder < tokens_.tokenizers(); ++encoder) {
    const auto model = parts_->text_encoder(encoder);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const at::Tensor ids = tokens_.ids(keys[i].first, encoder, keys[i].second).to(parts_->device());
      std::vector<at::Tensor> states;
      for (std::int64_t chunk = 0; chunk < ids.size(0); ++chunk) {
        const models::ClipTextOutput output = model->forward(ids.narrow(0, chunk, 1));
        states.push_back((xl ? output.penultimate : output.last).to(kFloat));
        if (xl && chunk == 0 && output.projected.defined()) out[i].pooled = output.projected.to(kFloat);
      }
      const at::Tensor all = at::cat(states, 1);  // [1, chunks * positions, width]
      out[i].hidden = encoder == 0 ? all : at::cat({out[i].hidden, all}, 2);
    }
  }
  return out;
}

}  // namespace muster::diffusion
