// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

namespace muster::models {

/// The files that open_component() reads, index and shards, relative to the pipeline's folder.
std::vector<std::string> component_files(const std::string& pipeline, const std::string& component);

}  // namespace muster::models
