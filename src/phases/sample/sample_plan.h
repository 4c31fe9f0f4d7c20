// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "muster/phases/item_phase.h"
#include "phases/sample/sample_options.h"

namespace muster::phases {

/// Memory by part and expected rate, from config files alone; `together` pictures of the usual size at a
/// time.
Footprint sample_footprint(const SampleOptions& options, const diffusion::PipelineDescription& description,
                           std::uint64_t together);

/// SHA-256 of a file, or of the files in a folder with their names.
std::string digest_path(const std::string& path);

}  // namespace muster::phases
