// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "muster/formats/png.h"

namespace muster::formats {

inline constexpr std::array<std::uint8_t, 8> kPngSignature{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
inline constexpr std::uint32_t kMostPngSide = 0x7fffffff;

inline constexpr std::size_t kPngChunkFrame = 12;  ///< length, type and CRC

struct PngChunk {
  std::string_view type;
  std::span<const std::byte> data;
  std::uint32_t crc = 0;  ///< as it stands in the file
  bool is_text() const { return type == "tEXt" || type == "zTXt" || type == "iTXt"; }
};
/// The chunk that begins at `at`; nullopt when the file ends before it does.
std::optional<PngChunk> chunk_at(std::span<const std::byte> file, std::size_t at);

/// CRC-32 over a chunk's type and data (PNG, section 5.3).
std::uint32_t chunk_crc(std::string_view type, std::span<const std::byte> data);

/// The texts of all sound tEXt, zTXt and iTXt chunks; a damaged one is passed over, as readers of pictures
/// do.
PngTexts read_png_texts(std::span<const std::byte> file);

}  // namespace muster::formats
