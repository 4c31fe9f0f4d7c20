// SPDX-License-Identifier: Apache-2.0
#include "muster/models/clip_text.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include <algorithm>

#include "models/clip_encoder.h"
#include "muster/core/error.h"

namespace muster::models {
namespace {

// Before it was corrected, published configs had this end token, which no vocabulary has at an end.
constexpr std::int64_t kOldEndToken = 2;
constexpr std::int64_t kMostRows = 1 << 26;

bool has_projection(const formats::JsonValue& config) {
  const auto classes = config.find("architectures");
  if (!classes || classes->is_null()) return false;
  const auto names = classes->as_list<std::string>();
  return std::find(names.begin(), names.end(), "CLIPTextModelWithProjection") != names.end();
}

ClipEncoderConfig encoder_config(const ClipTextConfig& config) {
  const auto activation = nn::activation_from_hidden_act(config.activation);
  core::internal_check(activation.has_value(), "a CLIP text tower has a known activation");
  return {.hidden = config.hidden,
          .intermediate = config.intermediate,
          .layers = config.layers,
          .heads = config.heads,
          .activation = *activation,
          .epsilon = config.epsilon,
          .mask = nn::Mask::kCausal};
}

// The first that equals the end token (0 where none does), or the first of the largest ids: [n].
at::Tensor end_positions(const at::Tensor& ids, std::int64_t end_token) {
  if (end_token == kOldEndToken) return ids.argmax(1);
  return ids.eq(end_token).to(c10::ScalarType::Int).argmax(1);
}

}  // namespace

ClipTextConfig ClipTextConfig::read(const formats::JsonValue& config) {
  ClipTextConfig out;
  const auto encoder = ClipEncoderConfig::read(config, encoder_config(out));
  out.hidden = encoder.hidden;
  out.intermediate = encoder.intermediate;
  out.layers = encoder.layers;
  out.heads = encoder.heads;
  out.epsilon = encoder.epsilon;
  out.activation = config.get_or<std::string>("hidden_act", out.activation);
  out.vocab = read_clip_size(config, "vocab_size", out.vocab, kMostRows);
  out.positions = read_clip_size(config, "max_position_embeddings", out.positions, kMostClipWidth);
  out.eos_token = config.get_or<std::int64_t>("eos_token_id", out.eos_token);
  constexpr std::int64_t kUsualProjection = 512;
  if (has_projection(config))
    out.projection = read_clip_size(config, "projection_dim", kUsualProjection, kMostClipWidth);
  return out;
}

struct ClipText::Impl {
  explicit Impl(const ClipTextConfig& config)
      : config(config),
        tokens({config.vocab, "vocab_size"}, {config.hidden, "hidden_size"}),
        positions({config.positions, "max_position_embeddings"}, {config.hidden, "hidden_size"}),
        encoder(encoder_config(config)),
        final_norm({config.hidden, "hidden_size"}, config.epsilon),
        projection({config.hidden, "hidden_size"}, {config.projection, "projection_dim"},
                   nn::Activation::kIdentity, nn::Bias::kNo) {}

  ClipTextConfig config;
  nn::Embedding tokens, positions;
  ClipEncoder encoder;
  nn::LayerNorm final_norm;
  nn::Linear projection;  // no child without one
};

ClipText::ClipText(const ClipTextConfig& config) : impl_(std::make_unique<Impl>(config)) {
  add_child("text_model.embeddings.token_embedding", impl_->tokens);
  add_child("text_model.embeddings.position_embedding", impl_->positions);
  add_child("text_model.encoder", impl_->encoder);
  add_child("text_model.final_layer_norm", impl_->final_norm);
  if (config.projection > 0) add_child("text_projection", impl_->projection);
}

ClipText::~ClipText() = default;

ClipTextOutput ClipText::forward(const at::Tensor& ids) const {
  const std::int64_t count = ids.size(0), length = ids.size(1), hidden = impl_->config.hidden;
  core::internal_check(length <= impl_->config.positions,
                       "a text has no more tokens than CLIP has positions");
  const at::Tensor places = at::arange(length, ids.options());
  const at::Tensor embedded = impl_->tokens.apply(ids) + impl_->positions.apply(places);
  const ClipEncoder::Output states = impl_->encoder.forward(embedded);
  ClipTextOutput out;
  out.last = impl_->final_norm.apply(states.last);
  out.penultimate = states.penultimate;
  const at::Tensor ends = end_positions(ids, impl_->config.eos_token).view({count, 1, 1});
  out.pooled = out.last.gather(1, ends.expand({count, 1, hidden})).squeeze(1);
  if (impl_->config.projection > 0) out.projected = impl_->projection.apply(out.pooled);
  return out;
}

const ClipTextConfig& ClipText::config() const {
  return impl_->config;
}

double ClipText::flops(std::int64_t tokens) const {
  const ClipTextConfig& config = impl_->config;
  return encoder_config(config).flops(tokens) +
         2 * static_cast<double>(config.hidden) * static_cast<double>(config.projection);
}

}  // namespace muster::models
