// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "muster/text/tokenizer.h"
#include "text/added_tokens.h"
#include "text/model.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/word_cache.h"

namespace muster::text {

/// Everything that an encode() in progress writes to. It keeps its capacity, so that the next text allocates
/// nothing.
struct EncodeScratch {
  NormalizerScratch normalizer;
  PreTokenizerScratch pre_tokenizer;
  ModelScratch model;
  std::vector<Segment> raw_segments, normalized_segments;
  std::vector<std::uint32_t> ids;
  WordCache cache;
};

/// As many scratches as there were ever encode() calls at one time. A pool and not thread_local: it dies with
/// its tokenizer.
class ScratchPool {
 public:
  std::unique_ptr<EncodeScratch> take();
  void give_back(std::unique_ptr<EncodeScratch> scratch);

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<EncodeScratch>> free_;
};

struct Tokenizer::Impl {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::unique_ptr<Model> model;
  AddedTokens added_tokens;
  PostProcessor post_processor;
  std::optional<std::uint32_t> pad_id;
  mutable ScratchPool scratch_pool;

  /// Leaves the ids of a text, without special tokens around it, in scratch.ids.
  void encode_text(std::string_view text, EncodeScratch& scratch) const;
  std::optional<std::string_view> token(std::uint32_t id) const;

  /// The three layouts of a model folder.
  static std::unique_ptr<Impl> from_tokenizer_json(const std::string& folder);
  static std::unique_ptr<Impl> from_bert_vocabulary(const std::string& folder);
  static std::unique_ptr<Impl> from_clip_vocabulary(const std::string& folder);

 private:
  void encode_segment(std::string_view text, EncodeScratch& scratch) const;
};

}  // namespace muster::text
