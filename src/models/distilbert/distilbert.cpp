// SPDX-License-Identifier: Apache-2.0
// DistilBERT (Sanh et al., 2019): BERT without token types, and with names of its own.
#include "models/config_reader.h"
#include "models/post_norm_transformer.h"

namespace muster::models {

std::unique_ptr<Transformer> make_distilbert(const formats::JsonValue& json) {
  PostNormTransformerConfig config{
      .vocab = read_vocab_size(json),
      .positions = read_position_rows(json),
      .blocks = read_blocks(json, {.layers = "n_layers",
                                   .hidden = "dim",
                                   .heads = "n_heads",
                                   .intermediate = "hidden_dim",
                                   .activation = "activation"}),
      .blocks_name = "transformer.layer",
      .weights = {.prefix = "distilbert.",
                  .unused = {"vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "pre_classifier.",
                             "classifier.", "qa_outputs.", "embeddings.position_ids"}},
      .head = {.dense = "pre_classifier", .activation = nn::Activation::kRelu, .output = "classifier"},
      .dropouts = read_dropouts(json, {.hidden = "dropout",
                                       .attention = "attention_dropout",
                                       .classifier = "seq_classif_dropout",
                                       .classifier_fallback = 0.2}),
      .transformers_name = "DistilBert",
  };
  config.blocks.layer_norm_epsilon = 1e-12;     // no key sets it
  config.dropouts.blocks.attention_output = 0;  // the reference drops nothing there
  config.blocks.names = {.query = "attention.q_lin",
                         .key = "attention.k_lin",
                         .value = "attention.v_lin",
                         .attention_output = "attention.out_lin",
                         .attention_norm = "sa_layer_norm",
                         .up = "ffn.lin1",
                         .down = "ffn.lin2",
                         .output_norm = "output_layer_norm"};
  return std::make_unique<PostNormTransformer>(config);
}

}  // namespace muster::models
