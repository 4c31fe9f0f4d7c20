// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/device/device.h"

namespace muster::device {

struct GpuState {
  int count = 0;
  std::string why_none;  ///< the missing part: library, driver or GPU
};

/// The choice itself, for any number of GPUs.
Device choose_device(const DeviceConfig& config, int local_rank, const GpuState& gpus);

}  // namespace muster::device
