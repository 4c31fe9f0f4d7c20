// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <span>

#include "formats/png_chunks.h"
#include "muster/core/error.h"
#include "muster/formats/png.h"

namespace muster::formats {
namespace {

// What decides the bytes besides picture and texts; never the machine.
constexpr int kLevel = 6, kMemoryLevel = 8, kWindowBits = 15;
constexpr std::size_t kMostChunkBytes = std::size_t{1} << 30;
constexpr std::byte kPaeth{4};

void put_number(std::vector<std::byte>& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::byte>(value >> shift));
}

void put_chunk(std::vector<std::byte>& out, std::string_view type, std::span<const std::byte> data) {
  put_number(out, static_cast<std::uint32_t>(data.size()));
  const auto name = std::as_bytes(std::span(type));
  out.insert(out.end(), name.begin(), name.end());
  out.insert(out.end(), data.begin(), data.end());
  put_number(out, chunk_crc(type, data));
}

std::byte paeth(int left, int above, int corner) {
  const int estimate = left + above - corner;
  const int a = std::abs(estimate - left), b = std::abs(estimate - above), c = std::abs(estimate - corner);
  return static_cast<std::byte>(a <= b && a <= c ? left : b <= c ? above : corner);
}

/// Each row behind its filter byte (PNG, section 9): every row the same filter, so that nothing is guessed.
std::vector<std::byte> filtered(const Image& image) {
  const std::size_t step = image.channels, row_bytes = std::size_t{image.width} * step;
  std::vector<std::byte> out(std::size_t{image.height} * (row_bytes + 1));
  const auto at = [&](std::size_t y, std::size_t x) {
    return static_cast<int>(image.pixels[y * row_bytes + x]);
  };
  for (std::size_t y = 0; y < image.height; ++y) {
    std::byte* row = out.data() + y * (row_bytes + 1);
    *row++ = kPaeth;
    for (std::size_t x = 0; x < row_bytes; ++x) {
      const int left = x >= step ? at(y, x - step) : 0, above = y > 0 ? at(y - 1, x) : 0;
      const int corner = x >= step && y > 0 ? at(y - 1, x - step) : 0;
      row[x] = static_cast<std::byte>(at(y, x) - static_cast<int>(paeth(left, above, corner)));
    }
  }
  return out;
}

std::vector<std::byte> deflated(std::span<const std::byte> bytes) {
  z_stream stream{};
  core::internal_check(
      deflateInit2(&stream, kLevel, Z_DEFLATED, kWindowBits, kMemoryLevel, Z_DEFAULT_STRATEGY) == Z_OK,
      "zlib starts");
  std::vector<std::byte> out(deflateBound(&stream, static_cast<uLong>(bytes.size())));
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  std::size_t given = 0, room = out.size();
  int status = Z_OK;
  while (status == Z_OK) {
    const std::size_t some = std::min(bytes.size() - given, kMostChunkBytes);
    const std::size_t space = std::min(room, kMostChunkBytes);
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data() + given));
    stream.avail_in = static_cast<uInt>(some);
    stream.avail_out = static_cast<uInt>(space);
    status = deflate(&stream, given + some == bytes.size() ? Z_FINISH : Z_NO_FLUSH);
    given += some - stream.avail_in;
    room -= space - stream.avail_out;
  }
  deflateEnd(&stream);
  core::internal_check(status == Z_STREAM_END, "zlib has room for what it said it needs");
  out.resize(out.size() - room);
  return out;
}

bool is_keyword(std::string_view keyword) {
  const auto printable = [](char c) {
    const auto code = static_cast<unsigned char>(c);
    return (code >= 32 && code <= 126) || code >= 161;
  };
  return !keyword.empty() && keyword.size() <= 79 && keyword.front() != ' ' && keyword.back() != ' ' &&
         std::all_of(keyword.begin(), keyword.end(), printable);
}

void put_text(std::vector<std::byte>& out, const std::string& keyword, const std::string& text) {
  core::internal_check(is_keyword(keyword), "a PNG keyword has 1 to 79 printable characters");
  core::internal_check(text.find('\0') == std::string::npos, "a PNG text holds no NUL");
  const bool ascii =
      std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 128; });
  // iTXt: not compressed, method 0, no language, no translated keyword.
  const std::string data = keyword + (ascii ? std::string(1, '\0') : std::string(5, '\0')) + text;
  put_chunk(out, ascii ? "tEXt" : "iTXt", std::as_bytes(std::span(data)));
}

}  // namespace

std::vector<std::byte> encode_png(const Image& image, const PngTexts& texts) {
  const auto channels = image.channels;
  core::internal_check(
      image.width > 0 && image.height > 0 && image.width <= kMostPngSide && image.height <= kMostPngSide,
      "a picture has pixels");
  core::internal_check(channels == 1 || channels == 3 || channels == 4, "a picture is grey, RGB or RGBA");
  core::internal_check(image.pixels.size() == std::size_t{image.width} * image.height * channels,
                       "a picture's pixels fit its size");
  const auto compressed = deflated(filtered(image));
  std::vector<std::byte> out;
  out.reserve(compressed.size() + 1024);
  for (const auto code : kPngSignature) out.push_back(static_cast<std::byte>(code));
  std::vector<std::byte> header;
  put_number(header, image.width);
  put_number(header, image.height);
  const std::byte colour{static_cast<std::uint8_t>(channels == 1 ? 0 : channels == 3 ? 2 : 6)};
  for (const std::byte part : {std::byte{8}, colour, std::byte{0}, std::byte{0}, std::byte{0}})
    header.push_back(part);
  put_chunk(out, "IHDR", header);
  for (const auto& [keyword, text] : texts) put_text(out, keyword, text);
  for (std::size_t begin = 0; begin < compressed.size(); begin += kMostChunkBytes)
    put_chunk(out, "IDAT",
              std::span(compressed).subspan(begin, std::min(kMostChunkBytes, compressed.size() - begin)));
  put_chunk(out, "IEND", {});
  return out;
}

}  // namespace muster::formats
