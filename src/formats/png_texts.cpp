// SPDX-License-Identifier: Apache-2.0
#include <zlib.h>

#include <optional>
#include <string>

#include "formats/png_chunks.h"
#include "muster/formats/utf8.h"

namespace muster::formats {
namespace {

// A few kilobytes are usual; a bomb ends here.
constexpr std::size_t kMostTextBytes = std::size_t{4} << 20;

std::uint32_t number_at(std::span<const std::byte> bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<std::uint32_t>(bytes[at + i]);
  return value;
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string from_latin1(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (code < 0x80) {
      out += c;
    } else {
      out += static_cast<char>(0xC0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 0x3F));
    }
  }
  return out;
}

std::optional<std::string> inflated(std::string_view data) {
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) return std::nullopt;
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  std::string out;
  std::array<char, 16384> part{};
  int status = Z_OK;
  while (status == Z_OK && out.size() <= kMostTextBytes) {
    stream.next_out = reinterpret_cast<Bytef*>(part.data());
    stream.avail_out = static_cast<uInt>(part.size());
    status = inflate(&stream, Z_NO_FLUSH);
    out.append(part.data(), part.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  return status == Z_STREAM_END ? std::optional(std::move(out)) : std::nullopt;
}

/// Takes the text before the next NUL off the front; nullopt when there is none.
std::optional<std::string_view> take_field(std::string_view& rest) {
  const auto end = rest.find('\0');
  if (end == std::string_view::npos) return std::nullopt;
  const auto field = rest.substr(0, end);
  rest.remove_prefix(end + 1);
  return field;
}

std::optional<std::string> international(std::string_view rest) {
  if (rest.size() < 2) return std::nullopt;
  const bool compressed = rest[0] != 0;
  if (compressed && rest[1] != 0) return std::nullopt;
  rest.remove_prefix(2);
  if (!take_field(rest) || !take_field(rest)) return std::nullopt;  // language, translated keyword
  auto text = compressed ? inflated(rest) : std::optional(std::string(rest));
  if (!text) return text;
  std::string valid;
  assign_utf8_replaced(*text, valid);
  return valid;
}

std::optional<std::string> text_in(std::string_view type, std::string_view rest) {
  if (type == "tEXt") return from_latin1(rest);
  if (type == "iTXt") return international(rest);
  if (rest.empty() || rest[0] != 0) return std::nullopt;  // the only method is deflate
  const auto text = inflated(rest.substr(1));
  return text ? std::optional(from_latin1(*text)) : std::nullopt;
}

}  // namespace

std::optional<PngChunk> chunk_at(std::span<const std::byte> file, std::size_t at) {
  if (at > file.size() || file.size() - at < kPngChunkFrame) return std::nullopt;
  const std::size_t length = number_at(file, at);
  if (length > file.size() - at - kPngChunkFrame) return std::nullopt;
  return PngChunk{.type = text_of(file.subspan(at + 4, 4)),
                  .data = file.subspan(at + 8, length),
                  .crc = number_at(file, at + 8 + length)};
}

std::uint32_t chunk_crc(std::string_view type, std::span<const std::byte> data) {
  const auto with_type = crc32_z(0, reinterpret_cast<const Bytef*>(type.data()), type.size());
  return static_cast<std::uint32_t>(
      data.empty() ? with_type
                   : crc32_z(with_type, reinterpret_cast<const Bytef*>(data.data()), data.size()));
}

PngTexts read_png_texts(std::span<const std::byte> file) {
  PngTexts texts;
  std::size_t at = kPngSignature.size();
  while (const auto chunk = chunk_at(file, at)) {
    if (chunk->is_text() && chunk_crc(chunk->type, chunk->data) == chunk->crc) {
      auto rest = text_of(chunk->data);
      if (const auto keyword = take_field(rest)) {
        if (auto text = text_in(chunk->type, rest)) texts.emplace_back(*keyword, std::move(*text));
      }
    }
    at += kPngChunkFrame + chunk->data.size();
  }
  return texts;
}

}  // namespace muster::formats
