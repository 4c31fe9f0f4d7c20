// SPDX-License-Identifier: Apache-2.0
// What a step costs, from the structure alone.
#pragma once
#include <cstdint>

#include "muster/models/unet2d.h"

namespace muster::models::unet2d {

struct Size {
  std::int64_t height = 0, width = 0;
};

/// Of one sample, two for each multiplication and sum. Keys and values of the text are not part of a step.
double step_flops(const UNet2DConfig& config, Size size, std::int64_t tokens);
/// Elements that live at the same time, at most: what the way down leaves behind and the largest layer's own.
double activation_elements(const UNet2DConfig& config, Size size);

}  // namespace muster::models::unet2d
