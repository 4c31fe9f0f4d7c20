// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>

#include "models/sentence_folder.h"

namespace muster::models {

/// The weights of a described folder, ready to compute. The hardware is checked already.
std::unique_ptr<TextEncoder> load_sentence_encoder(SentenceFolder folder, const EncoderLoadConfig& config);

}  // namespace muster::models
