// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>

#include "muster/formats/json.h"
#include "muster/nn/image_layers.h"
#include "muster/nn/linear.h"
#include "muster/nn/norm.h"

namespace muster::models {

/// The blocks that CLIP's two towers share.
struct ClipEncoderConfig {
  std::int64_t hidden = 512, intermediate = 2048, layers = 12, heads = 8;
  nn::Activation activation = nn::Activation::kQuickGelu;
  double epsilon = 1e-5;
  nn::Mask mask = nn::Mask::kCausal;
  /// What both towers' configs say; absent keys are what `usual` has. DataError names file and key.
  static ClipEncoderConfig read(const formats::JsonValue& config, const ClipEncoderConfig& usual);
  /// Of one sequence.
  double flops(std::int64_t tokens) const;
};

/// A size with a usual value for an absent key, between 1 and `most`.
std::int64_t read_clip_size(const formats::JsonValue& config, const char* key, std::int64_t usual,
                            std::int64_t most);
/// A projection's width: one above any model is refused, as are other sizes.
inline constexpr std::int64_t kMostClipWidth = 1 << 16;

/// A pre-norm block: x + attention(norm(x)), then x + fc2(activation(fc1(norm(x)))).
class ClipBlock : public nn::Module {
 public:
  explicit ClipBlock(const ClipEncoderConfig& config);
  at::Tensor forward(const at::Tensor& x) const;  // [n, tokens, hidden]

 private:
  std::int64_t heads_;
  nn::Mask mask_;
  nn::Linear q_proj_, k_proj_, v_proj_, out_proj_;
  nn::LayerNorm layer_norm1_;
  nn::Linear fc1_, fc2_;
  nn::LayerNorm layer_norm2_;
};

/// "layers.0" and up.
class ClipEncoder : public nn::Module {
 public:
  explicit ClipEncoder(const ClipEncoderConfig& config);
  struct Output {
    at::Tensor last;         ///< behind the last block, without a norm
    at::Tensor penultimate;  ///< what the last block reads
  };
  Output forward(const at::Tensor& x) const;

 private:
  std::deque<ClipBlock> layers_;
};

}  // namespace muster::models
