// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "muster/phases/item_phase.h"

namespace muster::phases {

/// Predictions of the classifier and cosines to the class vectors against gold labels: the only stage that
/// reads them.
PhaseInfo score_phase();

/// SHA-256 over what a predictions.h5 says, not when it was made.
std::string predictions_digest(const std::string& path);

}  // namespace muster::phases
