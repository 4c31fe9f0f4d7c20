// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/phases/item_phase.h"

namespace muster::phases {

/// Prompts to pictures: images/*.png, images.h5, contact_sheet.png.
PhaseInfo sample_phase();

}  // namespace muster::phases
