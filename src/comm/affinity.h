// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace muster::comm {

/// Cores that the calling thread may run on.
std::vector<int> current_affinity();
/// Cores that this process could run on if it asked: all of its cpuset, whatever its launcher bound it to.
std::vector<int> available_cores();

/// A core list as a bit mask of fixed size, to be exchanged between ranks, and back.
std::vector<std::uint64_t> affinity_words(std::span<const int> cores);
std::vector<int> affinity_cores(std::span<const std::uint64_t> words);

}  // namespace muster::comm
