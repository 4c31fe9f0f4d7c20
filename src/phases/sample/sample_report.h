// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

#include "muster/phases/item_phase.h"

namespace muster::phases {

/// Thumbnails of a finished job's pictures, for report.html.
std::vector<report::Section> sample_report(const ReportSource& source);

}  // namespace muster::phases
