// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "muster/formats/png.h"

namespace muster::phases {

/// What a job keeps of a picture.
struct PictureFacts {
  std::array<std::uint8_t, 32> digest{};  ///< SHA-256 of the PNG file
  std::uint64_t seed = 0;
  std::uint64_t row = 0;  ///< of the input: pictures of one prompt have it in common
  std::uint32_t copy = 0;
  std::uint32_t rank = 0;  ///< that made it
  std::uint32_t width = 0, height = 0;
  std::uint32_t tokens = 0;  ///< of the prompt
  std::uint8_t truncated = 0;
  std::uint8_t decoded_again = 0;  ///< in fp32
  bool operator==(const PictureFacts&) const = default;
};

/// A picture's record: facts, prompt and, on request, latents; and, from the worker until it is sealed, the
/// picture itself with the texts of its PNG.
struct PictureRecord {
  PictureFacts facts;
  std::string prompt;
  std::array<std::uint32_t, 3> latent_shape{};  ///< [channels, height, width]; zeros: none
  std::vector<float> latents;

  formats::PngTexts texts;
  std::vector<std::uint8_t> rgb;
};

std::vector<std::byte> pack(const PictureRecord& record);
/// Nullopt when the payload is no picture's (a failure's reason, say).
std::optional<PictureRecord> unpack_picture(std::span<const std::byte> payload);

/// The file of an unsealed record; sets the digest.
std::vector<std::byte> encode_picture(PictureRecord& record);

}  // namespace muster::phases
