// SPDX-License-Identifier: Apache-2.0
#include <span>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "muster/core/strings.h"
#include "muster/formats/png.h"
#include "muster/formats/utf8.h"

namespace muster::fuzz {
namespace {

constexpr std::uint64_t kMostPixels = 1 << 16;

std::vector<std::byte> as_bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

bool same(const formats::Image& a, const formats::Image& b) {
  return a.width == b.width && a.height == b.height && a.channels == b.channels && a.pixels == b.pixels;
}

/// What is written of a picture reads back.
void check_round_trip(const formats::Image& image, const std::string& text) {
  formats::PngTexts texts;
  const auto again =
      formats::decode_png(formats::encode_png(image, {{"text", text}}), "again.png", &texts, kMostPixels);
  expect(same(image, again), "a picture reads back");
  expect(texts == formats::PngTexts{{"text", text}}, "a text reads back");
}

}  // namespace

void png(std::string_view bytes) {
  formats::PngTexts texts;
  const auto image = unless<core::DataError>(
      [&] { return formats::decode_png(as_bytes(bytes), "fuzz.png", &texts, kMostPixels); });
  if (!image) return;
  expect(std::uint64_t{image->width} * image->height <= kMostPixels, "no more pixels than allowed");
  expect(image->pixels.size() == std::size_t{image->width} * image->height * image->channels,
         "all pixels are there");
  for (const auto& [keyword, text] : texts) expect(is_utf8(text), "texts are valid UTF-8");
  std::string text;
  formats::assign_utf8_replaced(core::printable(bytes), text);
  check_round_trip(*image, text);
}

}  // namespace muster::fuzz
