// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "muster/formats/png.h"

namespace muster::report {

struct Captioned {
  formats::Image image;
  std::string caption;  ///< UTF-8; what the font lacks is drawn as a box with the code
};

struct SheetConfig {
  std::uint32_t thumbnail = 256;  ///< most pixels of a picture's longer side
  std::uint32_t columns = 0;      ///< 0: about as wide as high, up to five pictures one row
};

/// At most `most` pixels on its longer side, each the mean of the area it stands for; RGB, smaller pictures
/// as they are.
formats::Image thumbnail(const formats::Image& image, std::uint32_t most);

/// One picture with all of them, captioned below (two lines, cut with an ellipsis). The same input gives the
/// same bytes.
formats::Image contact_sheet(const std::vector<Captioned>& pictures, const SheetConfig& config = {});

inline constexpr std::size_t kMostOnASheet = 400;

}  // namespace muster::report
