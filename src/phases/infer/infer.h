// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/phases/item_phase.h"

namespace muster::phases {

/// Documents to submission.csv and predictions.h5: the labels that a text classifier gives them.
PhaseInfo infer_phase();

}  // namespace muster::phases
