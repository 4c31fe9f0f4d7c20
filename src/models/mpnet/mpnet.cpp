// SPDX-License-Identifier: Apache-2.0
// MPNet (Song et al., 2020): post-norm blocks whose attention scores get a bias by distance, the same in
// every layer.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include <cmath>

#include "models/config_reader.h"
#include "models/post_norm_transformer.h"

namespace muster::models {
namespace {

constexpr std::int64_t kBuckets =
    32;  // the reference implementation always computes 32, whatever the config says
constexpr std::uint32_t kPaddingId = 1;

// T5's scheme (Raffel et al., 2019): half the buckets a direction; small distances have their own, larger
// ones share on a log scale up to 128. Computed with the reference's operations in fp32, so that borders fall
// alike.
at::Tensor distance_buckets(const at::Tensor& key_minus_query) {
  constexpr std::int64_t kHalf = kBuckets / 2, kExact = kHalf / 2, kMaxDistance = 128;
  const at::Tensor distance = key_minus_query.abs();
  const double log_range = std::log(static_cast<double>(kMaxDistance) / kExact);
  const at::Tensor large =
      (at::log(distance.to(c10::ScalarType::Float) / kExact) / log_range * (kHalf - kExact))
          .to(c10::ScalarType::Long);
  const at::Tensor bucket = at::where(distance.lt(kExact), distance, (large + kExact).clamp_max(kHalf - 1));
  return bucket + key_minus_query.gt(0).to(c10::ScalarType::Long) * kHalf;
}

class Mpnet final : public PostNormTransformer {
 public:
  explicit Mpnet(const PostNormTransformerConfig& config)
      : PostNormTransformer(config),
        relative_attention_bias_({kBuckets, "relative_attention_num_buckets"},
                                 {config.blocks.heads, "num_attention_heads"}) {
    add_child("encoder.relative_attention_bias", relative_attention_bias_);
  }

 protected:
  const nn::AttentionBias& attention_bias() const override { return bias_; }

  at::Tensor distance_bias(std::int64_t longest) const override { return by_distance(longest); }

  void on_prepare(const nn::ComputeTarget& target) override {
    bias_ = nn::AttentionBias::by_distance(by_distance(facts().max_positions), target);
  }

 private:
  at::Tensor by_distance(std::int64_t longest) const {
    const at::Tensor& table = relative_attention_bias_.table();
    const at::Tensor buckets = distance_buckets(at::arange(1 - longest, longest)).to(table.device());
    return table.to(c10::ScalarType::Float)
        .index_select(0, buckets)
        .t()
        .contiguous();  // [heads, 2 * longest - 1]
  }

  nn::Embedding relative_attention_bias_;
  nn::AttentionBias bias_;
};

}  // namespace

std::unique_ptr<Transformer> make_mpnet(const formats::JsonValue& json) {
  PostNormTransformerConfig config{
      .vocab = read_vocab_size(json),
      .positions = read_position_rows(json),
      .blocks = read_blocks(json),
      .position_rule = PositionRule::behind_padding(kPaddingId),
      .weights = {.prefix = "mpnet.",
                  .unused = {"pooler.", "lm_head.", "classifier.", "qa_outputs.", "embeddings.position_ids"}},
      .pooler = "pooler.dense",
      .head = {.dense = "classifier.dense", .output = "classifier.out_proj"},
      .dropouts = read_dropouts(json),
      .transformers_name = "MPNet",
  };
  if (config.positions.size <= config.position_rule.first)
    json.at("max_position_embeddings")
        .fail(fmt::format("is {}, but positions begin at 2", config.positions.size));
  if (json.get_or<std::int64_t>("relative_attention_num_buckets", kBuckets) != kBuckets)
    json.at("relative_attention_num_buckets").fail("must be 32, as in the reference implementation");
  config.dropouts.head_input = config.dropouts.head_output = config.dropouts.embeddings;
  config.blocks.names.query = "attention.attn.q";
  config.blocks.names.key = "attention.attn.k";
  config.blocks.names.value = "attention.attn.v";
  config.blocks.names.attention_output = "attention.attn.o";
  config.blocks.names.attention_norm = "attention.LayerNorm";
  return std::make_unique<Mpnet>(config);
}

}  // namespace muster::models
