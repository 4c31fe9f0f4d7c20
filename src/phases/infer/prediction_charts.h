// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

#include "muster/phases/item_phase.h"

namespace muster::phases {

/// What report.html says about the labels of a finished job.
std::vector<report::Section> prediction_charts(const ReportSource& source);

}  // namespace muster::phases
