// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/phases/item_phase.h"

namespace muster::phases {

/// Fine-tuning of a text encoder as a (hierarchical) multi-label classifier.
PhaseInfo train_phase();

}  // namespace muster::phases
