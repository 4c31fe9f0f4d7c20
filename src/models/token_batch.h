// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "models/transformer.h"
#include "muster/models/text_encoder.h"
#include "muster/models/trainable_classifier.h"

namespace muster::models {

/// DataError when an id or a length is none that the transformer takes.
void check_texts(const PackedTexts& texts, const TransformerFacts& facts);
/// Ids and positions on the device, as many rows as nn::padded_rows says. The texts are checked.
TokenBatch make_token_batch(const PackedTexts& texts, const PositionRule& rule,
                            const nn::ComputeTarget& target);
/// The same for training: as many rows as there are tokens.
TrainingBatch make_training_batch(const TrainingTexts& texts, const PositionRule& rule,
                                  const nn::ComputeTarget& target);

}  // namespace muster::models
