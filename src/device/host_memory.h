// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "muster/device/device.h"

namespace muster::device {

/// Memory that this process may use on the host: the machine's, or what its control groups (version 1 or 2)
/// leave of it. `root` stands before /proc and /sys, for tests.
MemoryInfo host_memory(const std::string& root = "");

}  // namespace muster::device
