// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/phases/item_phase.h"

namespace muster::phases {

/// Documents to embeddings.h5.
PhaseInfo encode_phase();

}  // namespace muster::phases
