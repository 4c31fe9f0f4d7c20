// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "models/transformer.h"
#include "muster/formats/json.h"

namespace muster::models {

/// The transformer that config.json's model_type names: its structure, without weights.
std::unique_ptr<Transformer> make_transformer(const formats::JsonValue& config);

}  // namespace muster::models
