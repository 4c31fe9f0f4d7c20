// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace muster::formats {

/// 8 bits a channel.
struct Image {
  std::uint32_t width = 0, height = 0;
  std::uint32_t channels = 3;        ///< 1 (grey), 3 (RGB) or 4 (RGBA)
  std::vector<std::uint8_t> pixels;  ///< [height, width, channels]
};

/// Keyword (Latin-1, 1 to 79 bytes) and UTF-8 text, in file order. Plain ASCII goes to tEXt, the rest to
/// iTXt.
using PngTexts = std::vector<std::pair<std::string, std::string>>;

/// The same image and texts give the same bytes everywhere: no time, fixed filter and compression level.
std::vector<std::byte> encode_png(const Image& image, const PngTexts& texts = {});
/// Any PNG as 8-bit RGB, RGBA or grey; at most `most_pixels`. DataError names `path`. For pictures of one's
/// own (training data, tests); sizes are checked before anything is allocated.
Image decode_png(const std::vector<std::byte>& bytes, const std::string& path, PngTexts* texts = nullptr,
                 std::uint64_t most_pixels = std::uint64_t{1} << 26);

}  // namespace muster::formats
