// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

#include "muster/config/schema.h"
#include "muster/phases/item_phase.h"

namespace muster::phases {

/// Keys of the picture: report.labels, report.map_points. They change no result.
config::Schema embedding_map_schema();
/// The embeddings of a finished job as points of a plane, similar documents near each other, coloured by the
/// labels of report.labels. Nothing when there are too few rows or the picture is not wanted.
std::vector<report::Section> embedding_map(const ReportSource& source);

}  // namespace muster::phases
