// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/phases/item_phase.h"

namespace muster::phases {

/// From class names to a submission.csv: encode, pseudo-label, train, infer, score, one job after the other.
PhaseInfo teleclass_phase();

}  // namespace muster::phases
