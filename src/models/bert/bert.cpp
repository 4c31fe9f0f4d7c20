// SPDX-License-Identifier: Apache-2.0
// BERT (Devlin et al., 2018).
#include "models/config_reader.h"
#include "models/post_norm_transformer.h"

namespace muster::models {

std::unique_ptr<Transformer> make_bert(const formats::JsonValue& json) {
  const PostNormTransformerConfig config{
      .vocab = read_vocab_size(json),
      .positions = read_position_rows(json),
      .token_types = read_size(json, "type_vocab_size", 1024),
      .blocks = read_blocks(json),
      .weights = {.prefix = "bert.",
                  .unused = {"pooler.", "cls.", "classifier.", "qa_outputs.", "embeddings.position_ids",
                             "embeddings.token_type_ids"}},
      .pooler = "pooler.dense",
      .head = {.dense = "pooler.dense", .dense_naming = Naming::kBehindPrefix, .output = "classifier"},
      .dropouts = read_dropouts(json),
      .transformers_name = "Bert",
  };
  return std::make_unique<PostNormTransformer>(config);
}

}  // namespace muster::models
