// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "muster/phases/item_phase.h"

namespace muster::phases {

/// How many documents each class got, and which got too few.
std::vector<report::Section> similarity_sections(const ReportSource& source);

/// Rows of a CSV file whose last column may hold commas of its own (names are not quoted), without the
/// header.
std::vector<std::vector<std::string>> read_table(const std::string& path, std::size_t columns);

}  // namespace muster::phases
