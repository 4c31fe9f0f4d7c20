// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "muster/formats/json.h"
#include "muster/nn/module.h"

namespace muster::models {

/// A CLIP text tower (Radford et al., 2021), transformers' CLIPTextModel or CLIPTextModelWithProjection.
struct ClipTextConfig {
  std::int64_t hidden = 512, intermediate = 2048, layers = 12, heads = 8;
  std::int64_t vocab = 49408, positions = 77;
  std::int64_t projection = 0;  ///< width of text_embeds; 0: the model has none
  std::int64_t eos_token = 49407;
  std::string activation = "quick_gelu";
  double epsilon = 1e-5;
  /// DataError names file and key.
  static ClipTextConfig read(const formats::JsonValue& config);
};

struct ClipTextOutput {
  at::Tensor last;  ///< [n, tokens, hidden], behind the final norm
  at::Tensor
      penultimate;    ///< [n, tokens, hidden], what the last layer reads, without a norm: hidden_states[-2]
  at::Tensor pooled;  ///< [n, hidden], the state of the end token, behind the final norm
  at::Tensor projected;  ///< [n, projection], text_embeds; undefined without a projection
};

/// Named as in the checkpoint ("text_model.encoder.layers.0...", "text_projection.weight").
class ClipText : public nn::Module {
 public:
  explicit ClipText(const ClipTextConfig& config);
  ~ClipText() override;
  /// `ids` int64 [n, tokens], tokens at most positions; causal. The end token is the one transformers takes:
  /// the largest id where eos_token is 2 (old configs), else the first that equals eos_token.
  ClipTextOutput forward(const at::Tensor& ids) const;
  const ClipTextConfig& config() const;
  double flops(std::int64_t tokens) const;  ///< of one text

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::models
