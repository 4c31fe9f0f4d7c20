// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/phases/item_phase.h"

namespace muster::phases {

/// Embeddings of documents and of class texts -> a submission.csv of the nearest classes: what the names
/// alone tell, the baseline of all training.
PhaseInfo zero_shot_phase();

}  // namespace muster::phases
