// SPDX-License-Identifier: Apache-2.0
// RoBERTa (Liu et al., 2019), and XLM-RoBERTa and CamemBERT, which differ in vocabulary only.
#include <fmt/format.h>

#include "models/config_reader.h"
#include "models/post_norm_transformer.h"

namespace muster::models {
namespace {

std::string transformers_name(const std::string& model_type) {
  if (model_type == "xlm-roberta") return "XLMRoberta";
  return model_type == "camembert" ? "Camembert" : "Roberta";
}

}  // namespace

std::unique_ptr<Transformer> make_roberta(const formats::JsonValue& json) {
  PostNormTransformerConfig config{
      .vocab = read_vocab_size(json),
      .positions = read_position_rows(json),
      .token_types = read_size(json, "type_vocab_size", 1024),
      .blocks = read_blocks(json),
      .position_rule = PositionRule::behind_padding(json.get_or<std::uint32_t>("pad_token_id", 1)),
      .weights = {.prefix = "roberta.",
                  .unused = {"pooler.", "lm_head.", "classifier.", "qa_outputs.", "embeddings.position_ids",
                             "embeddings.token_type_ids"}},
      .pooler = "pooler.dense",
      .head = {.dense = "classifier.dense", .output = "classifier.out_proj"},
      .dropouts = read_dropouts(json),
      .transformers_name = transformers_name(json.get<std::string>("model_type")),
  };
  config.dropouts.head_input = config.dropouts.head_output;
  if (config.positions.size <= config.position_rule.first)
    json.at("max_position_embeddings")
        .fail(fmt::format("is {}, but positions begin at pad_token_id + 1 = {}", config.positions.size,
                          config.position_rule.first));
  return std::make_unique<PostNormTransformer>(config);
}

}  // namespace muster::models
