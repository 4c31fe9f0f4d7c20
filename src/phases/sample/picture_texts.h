// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "muster/diffusion/text_to_image.h"
#include "muster/formats/png.h"

namespace muster::phases {

/// What all pictures of a job have in common, for the texts of their PNGs: nothing that depends on where or
/// when a picture was made.
struct PictureSource {
  std::string model_name;    ///< the folder's last name
  std::string model_sha256;  ///< hex
  std::string sampler;       ///< "euler_a"
  std::string dtype;         ///< "bf16"
  std::string long_prompt;   ///< "truncate"
  struct Adapter {
    std::string name, sha256;
    double scale = 1;
  };
  std::vector<Adapter> adapters;
};

/// `parameters`, in the form that most programs read (prompt, negative prompt, then "Steps: 20, Sampler:
/// ..."), and `muster`, the same and more as JSON.
formats::PngTexts picture_texts(const diffusion::PictureRequest& request, const PictureSource& source);

}  // namespace muster::phases
