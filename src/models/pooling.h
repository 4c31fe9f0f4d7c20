// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "muster/formats/json.h"
#include "muster/models/text_encoder.h"

namespace muster::models {

struct PoolingConfig {
  std::vector<Pooling> modes{Pooling::kMean};  ///< several are concatenated in this order
  bool include_prompt = true;                  ///< false: the prompt's tokens are attended to, but not pooled

  /// The config.json of a Pooling module, in the old spelling (a boolean a mode) or the new ("pooling_mode").
  static PoolingConfig read(const formats::JsonValue& json, std::int64_t hidden);
};

/// Nothing left to divide by (a text that is all prompt) gives zeros, as in sentence-transformers.
inline constexpr float kSmallestWeight = 1e-9f;

/// Makes one vector of a text's hidden states [tokens, hidden]: modes one after another, each in fp32 and
/// token by token, so that the sum is the same whatever is beside the text. The first `prompt_tokens` are
/// left out.
void pool(std::span<const float> states, std::size_t hidden, std::size_t prompt_tokens,
          std::span<const Pooling> modes, std::span<float> out);

}  // namespace muster::models
