// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/phases/item_phase.h"

namespace muster::phases {

/// The whole pipeline on one page, as far as it got: scores, stages, training, memory.
report::Report teleclass_report(const ReportSource& source);

}  // namespace muster::phases
