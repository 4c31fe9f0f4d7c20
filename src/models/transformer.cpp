// SPDX-License-Identifier: Apache-2.0
#include "models/transformer.h"

#include "muster/core/error.h"

namespace muster::models {

at::Tensor Transformer::forward_training(const TrainingBatch&, const TrainingRules&) const {
  throw core::InternalError("an architecture without a training forward is trained");
}

}  // namespace muster::models
