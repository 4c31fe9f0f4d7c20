// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "models/transformer.h"
#include "muster/formats/json.h"
#include "muster/nn/post_norm_block.h"

namespace muster::models {

/// Keys under which a config.json has the sizes of its blocks; the defaults are the usual ones. Literals:
/// extents keep them.
struct BlockKeys {
  const char* layers = "num_hidden_layers";
  const char* hidden = "hidden_size";
  const char* heads = "num_attention_heads";
  const char* intermediate = "intermediate_size";
  const char* activation = "hidden_act";
};

/// Keys under which a config.json has what training drops.
struct DropoutKeys {
  const char* hidden = "hidden_dropout_prob";
  const char* attention = "attention_probs_dropout_prob";
  const char* classifier = "classifier_dropout";
  std::optional<double> classifier_fallback;  ///< nothing: as `hidden`
};

/// A required size between 1 and `most`; DataError names file and key.
nn::Extent read_size(const formats::JsonValue& config, const char* key, std::int64_t most);
nn::Extent read_vocab_size(const formats::JsonValue& config);
nn::Extent read_position_rows(const formats::JsonValue& config);
/// Layers, widths, heads, activation and epsilon of the blocks, checked together. Refuses what would make
/// another model of them: decoders, cross attention, relative key positions, pruned heads, quantized weights.
nn::PostNormConfig read_blocks(const formats::JsonValue& config, const BlockKeys& keys = {});
/// As BERT of transformers uses them: `hidden` at every place but attention's probabilities and in front of
/// the classifier. An absent key is 0.1.
DropoutRates read_dropouts(const formats::JsonValue& config, const DropoutKeys& keys = {});

}  // namespace muster::models
