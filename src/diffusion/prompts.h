// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "diffusion/parts.h"
#include "muster/text/tokenizer.h"

namespace muster::diffusion {

/// Prompts as token ids in rows of the text encoders' length.
class PromptTokens {
 public:
  PromptTokens(const models::DiffusionFolder& folder, LongPrompt long_prompt);
  PromptLength length(const std::string& prompt) const;
  /// Rows that a prompt fills, 1 where long prompts are cut.
  std::size_t chunks(const std::string& prompt) const;
  std::size_t tokenizers() const { return tokenizers_.size(); }
  /// int64 [chunks, positions]; rows beyond the prompt's own are those of the empty prompt.
  at::Tensor ids(const std::string& prompt, std::size_t tokenizer, std::size_t chunks) const;

 private:
  struct One {
    text::Tokenizer tokenizer;
    std::uint32_t begin, end, pad;
  };
  std::vector<std::uint32_t> own_ids(const One& one, const std::string& prompt, std::uint32_t most) const;

  LongPrompt long_prompt_;
  std::uint32_t positions_ = 0;
  std::vector<One> tokenizers_;
};

/// What the UNet reads of a prompt, fp32 on the device.
struct PromptEncoding {
  at::Tensor hidden;  ///< [1, tokens, width]
  at::Tensor pooled;  ///< [1, projection]; undefined for SD
  std::size_t bytes() const;
};

/// Encodes a prompt once: encodings are kept, the latest used first, up to a number of bytes. Every chunk is
/// encoded alone, so that nothing else decides its bytes. Shared by workers.
class PromptEncoder {
 public:
  PromptEncoder(std::shared_ptr<Parts> parts, const models::DiffusionFolder& folder, LongPrompt long_prompt);
  const PromptTokens& tokens() const { return tokens_; }
  /// In the order of `prompts`; distinct ones are encoded together, an encoder at a time.
  std::vector<PromptEncoding> encode(std::span<const std::string> prompts, std::size_t chunks);
  void clear();

 private:
  using Key = std::pair<std::string, std::size_t>;
  struct Entry {
    Key key;
    PromptEncoding encoding;
  };
  bool find(const Key& key, PromptEncoding& out);
  void keep(const Key& key, const PromptEncoding& encoding);
  std::vector<PromptEncoding> compute(std::span<const Key> keys) const;

  std::shared_ptr<Parts> parts_;
  models::PipelineKind kind_;
  PromptTokens tokens_;
  std::mutex mutex_;
  std::list<Entry> entries_;  // the latest used first
  std::map<Key, std::list<Entry>::iterator> places_;
  std::size_t bytes_ = 0;
};

}  // namespace muster::diffusion
