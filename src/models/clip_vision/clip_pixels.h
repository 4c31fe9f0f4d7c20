// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "muster/formats/json.h"
#include "muster/models/clip_score.h"

namespace muster::models {

/// What a CLIP model wants of a picture before it looks at it: preprocessor_config.json.
struct ClipPixelsConfig {
  std::int64_t shortest_edge = 224;              ///< the picture is scaled to it; 0: to height and width
  std::int64_t height = 0, width = 0;            ///< without shortest_edge
  std::int64_t crop_height = 0, crop_width = 0;  ///< cut out of the middle; 0: not cut
  double rescale = 1.0 / 255;
  std::array<double, 3> mean{0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> deviation{0.26862954, 0.26130258, 0.27577711};
  /// DataError names file and key; also when not every picture would become one of `size` pixels a side.
  static ClipPixelsConfig read(const formats::JsonValue& config, std::int64_t size);
};

/// 8 bits a channel, RGB.
struct PixelGrid {
  std::int64_t width = 0, height = 0;
  std::vector<std::uint8_t> rgb;  ///< [height, width, 3]
};

/// Bicubic, averaged over what a pixel covers where a picture shrinks; rows first, rounded to bytes, then
/// columns: byte by byte what the Python Imaging Library makes, with which CLIP models were trained.
PixelGrid resize_bicubic(const RgbPicture& picture, std::int64_t width, std::int64_t height);

/// [3, size, size]
std::vector<float> clip_pixels(const RgbPicture& picture, const ClipPixelsConfig& config);

}  // namespace muster::models
