// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <string>

namespace muster::text {

/// The two files of a CLIP tokenizer's vocabulary.
struct ClipVocabulary {
  std::string vocabulary;  ///< vocab.json
  std::string merges;      ///< merges.txt
  std::uint32_t size = 0;  ///< tokens; the last two are <|startoftext|> and <|endoftext|>
};

/// The smallest: all bytes, inside and at the end of a word, and both special tokens.
inline constexpr std::uint32_t kLeastClipVocabulary = 2 * 256 + 2;

/// Learnt from texts as CLIP splits them (Sennrich et al., 2016): the most frequent pair of neighbours is
/// merged, of equally frequent ones the first by its text, until there are `most` tokens or no pair occurs
/// twice.
ClipVocabulary learn_clip_vocabulary(std::span<const std::string> texts, std::uint32_t most);

}  // namespace muster::text
