// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <png.h>

#include <algorithm>

#include "formats/png_chunks.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "muster/formats/png.h"

namespace muster::formats {
namespace {

/// libpng's reading state, freed on every way out.
class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path) { image_.version = PNG_IMAGE_VERSION; }
  ~Reader() { png_image_free(&image_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  Image read(const std::vector<std::byte>& bytes, std::uint64_t most_pixels) {
    if (png_image_begin_read_from_memory(&image_, bytes.data(), bytes.size()) == 0) fail();
    const std::uint64_t pixels = std::uint64_t{image_.width} * image_.height;
    if (pixels > most_pixels)
      throw core::DataError(fmt::format("{} has {} x {} pixels; at most {} are read", path_, image_.width,
                                        image_.height, most_pixels));
    Image out{.width = image_.width, .height = image_.height, .channels = choose_format(), .pixels = {}};
    out.pixels.resize(pixels * out.channels);
    if (png_image_finish_read(&image_, nullptr, out.pixels.data(), 0, nullptr) == 0) fail();
    return out;
  }

 private:
  /// Palettes and 16 bits become 8-bit channels in sRGB.
  std::uint32_t choose_format() {
    const bool colour = (image_.format & PNG_FORMAT_FLAG_COLOR) != 0;
    const bool alpha = (image_.format & PNG_FORMAT_FLAG_ALPHA) != 0;
    image_.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
    image_.format = alpha ? PNG_FORMAT_RGBA : colour ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
    return alpha ? 4 : colour ? 3 : 1;
  }

  [[noreturn]] void fail() const {
    throw core::DataError(fmt::format("{} is no sound PNG: {}", path_, core::printable(image_.message)));
  }

  const std::string& path_;
  png_image image_{};
};

/// What libpng needs of a file. It takes memory for a chunk by the length that the chunk claims, and for
/// texts as much as they unpack to: of a few bytes that may be gigabytes.
std::vector<std::byte> without_texts(std::span<const std::byte> file, const std::string& path) {
  std::size_t at = kPngSignature.size();
  std::vector<std::byte> out(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(at));
  while (const auto chunk = chunk_at(file, at)) {
    const auto bytes = file.subspan(at, kPngChunkFrame + chunk->data.size());
    at += bytes.size();
    if (!chunk->is_text()) out.insert(out.end(), bytes.begin(), bytes.end());
    if (chunk->type == "IEND") return out;
  }
  if (file.size() - at < kPngChunkFrame) return out;  // libpng knows whether something is missing
  throw core::DataError(fmt::format("{} is no sound PNG: a chunk goes beyond its end", path));
}

}  // namespace

Image decode_png(const std::vector<std::byte>& bytes, const std::string& path, PngTexts* texts,
                 std::uint64_t most_pixels) {
  const auto same = [](std::byte a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; };
  if (bytes.size() < kPngSignature.size() ||
      !std::equal(kPngSignature.begin(), kPngSignature.end(), bytes.begin(),
                  [&](std::uint8_t b, std::byte a) { return same(a, b); }))
    throw core::DataError(fmt::format("{} is no PNG file", path));
  Image image = Reader(path).read(without_texts(bytes, path), most_pixels);
  if (texts != nullptr) *texts = read_png_texts(bytes);
  return image;
}

}  // namespace muster::formats
