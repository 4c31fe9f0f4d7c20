// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "muster/diffusion/text_to_image.h"

namespace muster::phases {

/// "PATH" or "PATH:0.8". A folder of folders named like parts of a pipeline (unet/, text_encoder/), as peft
/// saves what was trained together, is several.
std::vector<diffusion::AdapterChoice> parse_adapter(const std::string& text);

/// What people call an adapter: its file's name, or its folder's where all files are named alike.
std::string adapter_name(const std::string& path);

/// The last part of a model's path as the user gave it, whatever its spelling: "sd15" of ./models/sd15/.
std::string model_name(const std::string& path);

/// The name of diffusion::sampler_names() that is meant by what other programs call it ("DPM++ 2M Karras",
/// "Euler a", "EulerDiscreteScheduler"); else the text itself.
std::string sampler_called(const std::string& text);

}  // namespace muster::phases
