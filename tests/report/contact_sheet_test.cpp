// SPDX-License-Identifier: Apache-2.0
#include "muster/report/contact_sheet.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "report/pixel_font.h"

namespace muster::report {
namespace {

using formats::Image;

Image plain(std::uint32_t width, std::uint32_t height, std::array<std::uint8_t, 3> colour) {
  Image image{.width = width, .height = height, .channels = 3, .pixels = {}};
  for (std::size_t i = 0; i < std::size_t{width} * height; ++i)
    image.pixels.insert(image.pixels.end(), colour.begin(), colour.end());
  return image;
}

std::array<int, 3> pixel(const Image& image, std::uint32_t x, std::uint32_t y) {
  const auto* at = image.pixels.data() + (std::size_t{y} * image.width + x) * 3;
  return {at[0], at[1], at[2]};
}

std::size_t count_of(const Image& image, std::array<int, 3> colour) {
  std::size_t count = 0;
  for (std::uint32_t y = 0; y < image.height; ++y)
    for (std::uint32_t x = 0; x < image.width; ++x) count += pixel(image, x, y) == colour;
  return count;
}

TEST(Thumbnail, IsTheMeanOfWhatItCovers) {
  Image image{.width = 3, .height = 2, .channels = 1, .pixels = {0, 30, 60, 90, 120, 150}};
  const Image one = thumbnail(image, 1);
  EXPECT_EQ(one.width, 1u);
  EXPECT_EQ(one.height, 1u);
  EXPECT_EQ(one.pixels, (std::vector<std::uint8_t>{75, 75, 75}));
  // Two columns of one and a half pixels each; 2 x 1 keeps the shape of 3 x 2.
  const Image two = thumbnail(image, 2);
  ASSERT_EQ(two.width, 2u);
  ASSERT_EQ(two.height, 1u);
  EXPECT_EQ(pixel(two, 0, 0)[0], 55) << "(0 + 30/2 + 90 + 120/2) / 3";
  EXPECT_EQ(pixel(two, 1, 0)[0], 95);
  EXPECT_EQ(thumbnail(image, 3).pixels[3], 30) << "as it is";
  const Image clear{.width = 1, .height = 1, .channels = 4, .pixels = {0, 0, 0, 0}};
  EXPECT_EQ(thumbnail(clear, 8).pixels, (std::vector<std::uint8_t>{250, 250, 250})) << "the paper shows";
}

TEST(ContactSheet, ShowsEveryPictureOnce) {
  std::vector<Captioned> pictures;
  for (int i = 0; i < 7; ++i)
    pictures.push_back(
        {plain(40, 20, {static_cast<std::uint8_t>(i * 30), 200, 10}), "picture " + std::to_string(i)});
  const Image sheet = contact_sheet(pictures, {.thumbnail = 20, .columns = 3});
  for (int i = 0; i < 7; ++i) EXPECT_EQ(count_of(sheet, {i * 30, 200, 10}), 200u) << "picture " << i;
  EXPECT_EQ(sheet.width, 8u + 3 * (96 + 8));
  EXPECT_EQ(sheet.pixels, contact_sheet(pictures, {.thumbnail = 20, .columns = 3}).pixels);
}

TEST(ContactSheet, NoPicturesAreAnEmptySheet) {
  const Image sheet = contact_sheet({});
  EXPECT_GT(sheet.width, 0u);
  EXPECT_EQ(count_of(sheet, {250, 250, 250}), std::size_t{sheet.width} * sheet.height);
}

std::size_t ink_of(const std::string& caption, std::uint32_t side = 64) {
  return count_of(contact_sheet({{plain(side, side, {1, 2, 3}), caption}}), {32, 32, 32});
}

TEST(ContactSheet, CaptionsAreCutNotSpilled) {
  EXPECT_EQ(ink_of(""), 0u);
  const std::size_t two_lines = ink_of(std::string(16, 'H') + " " + std::string(15, 'H'));
  const std::size_t cut = ink_of(std::string(5000, 'H'));
  EXPECT_GT(two_lines, 0u);
  EXPECT_LE(cut, ink_of(std::string(32, 'H')) + 3) << "two lines and three dots at most";
  for (const char* hostile :
       {"\xFF\xFE", "a\x01\x02z", "\xF0\x9F\x90\x88", "../../x", "\xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D"})
    EXPECT_GT(ink_of(hostile), 0u) << hostile;
  EXPECT_EQ(ink_of("A\xE2\x80\x8F"
                   "B"),
            ink_of("AB"))
      << "marks of direction take no place";
}

TEST(PixelFont, HasAsciiAndLatin1EachDifferent) {
  std::vector<Glyph> seen;
  for (char32_t code = 33; code < 0x100; ++code) {
    if ((code >= 0x7F && code <= 0xA0) || code == 0xAD) continue;
    const std::string text = code < 0x80 ? std::string(1, static_cast<char>(code))
                                         : std::string{static_cast<char>(0xC0 | code >> 6),
                                                       static_cast<char>(0x80 | (code & 0x3F))};
    const auto letters = letters_of(text);
    ASSERT_EQ(letters.size(), 1u);
    ASSERT_NE(letters[0].glyph, nullptr) << "U+" << std::hex << static_cast<unsigned>(code);
    const Glyph& glyph = *letters[0].glyph;
    EXPECT_TRUE(std::any_of(glyph.begin(), glyph.end(), [](std::uint8_t row) { return row != 0; }));
    EXPECT_EQ(std::count(seen.begin(), seen.end(), glyph), 0)
        << "U+" << std::hex << static_cast<unsigned>(code);
    seen.push_back(glyph);
  }
  EXPECT_EQ(letters_of("\xE7\x8C\xAB").front().glyph, nullptr) << "a box with its code";
  EXPECT_GT(letters_of("\xF0\x9F\x90\x88").front().width, letters_of("\xE7\x8C\xAB").front().width);
}

}  // namespace
}  // namespace muster::report
