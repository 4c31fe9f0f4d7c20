// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/png.h"

#include <zlib.h>

#include <algorithm>
#include <span>

#include "muster/core/digest.h"
#include "muster/core/philox.h"
#include "testing.h"

namespace muster::formats {
namespace {

std::vector<std::byte> from_hex(std::string_view hex) {
  std::vector<std::byte> out;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    out.push_back(static_cast<std::byte>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  return out;
}

Image noise(std::uint32_t width, std::uint32_t height, std::uint32_t channels) {
  Image image{.width = width, .height = height, .channels = channels, .pixels = {}};
  core::Philox random(7, channels);
  image.pixels.resize(std::size_t{width} * height * channels);
  for (auto& value : image.pixels) value = static_cast<std::uint8_t>(random.next_below(256));
  return image;
}

class PngSizes : public ::testing::TestWithParam<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>> {};
INSTANTIATE_TEST_SUITE_P(Table, PngSizes,
                         ::testing::Combine(::testing::Values(1, 7, 64), ::testing::Values(1, 5, 33),
                                            ::testing::Values(1, 3, 4)));

TEST_P(PngSizes, WhatIsWrittenIsRead) {
  const auto [width, height, channels] = GetParam();
  const Image image = noise(width, height, channels);
  const Image read = decode_png(encode_png(image), "a.png");
  EXPECT_EQ(read.width, width);
  EXPECT_EQ(read.height, height);
  EXPECT_EQ(read.channels, channels);
  EXPECT_EQ(read.pixels, image.pixels);
}

TEST(Png, TheBytesAreTheSameEverywhere) {
  Image image{.width = 3, .height = 2, .channels = 3, .pixels = {}};
  for (int i = 0; i < 18; ++i) image.pixels.push_back(static_cast<std::uint8_t>(i * 13));
  const auto bytes =
      encode_png(image, {{"parameters", "a cat"}, {"muster", "{\"prompt\":\"\xE7\x8C\xAB\"}"}});
  EXPECT_EQ(bytes, encode_png(image, {{"parameters", "a cat"}, {"muster", "{\"prompt\":\"\xE7\x8C\xAB\"}"}}));
  EXPECT_EQ(core::crc32c(std::as_bytes(std::span(bytes))), 3316892930u);
}

TEST(Png, TextsComeBackInOrder) {
  const PngTexts texts{
      {"parameters", "a cat\nSteps: 4"}, {"muster", "\xE7\x8C\xAB \xF0\x9F\x90\x88"}, {"caf\xE9", ""}};
  PngTexts read;
  const auto bytes = encode_png(noise(2, 2, 3), texts);
  decode_png(bytes, "a.png", &read);
  EXPECT_EQ(read, texts);
  const std::string all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  EXPECT_NE(all.find("tEXtparameters"), std::string::npos) << "plain ASCII, which every reader knows";
  EXPECT_NE(all.find("iTXtmuster"), std::string::npos);
}

struct Foreign {
  const char* name;
  const char* hex;
  std::uint32_t channels;
  std::vector<std::uint8_t> pixels;
};
void PrintTo(const Foreign& foreign, std::ostream* out) {
  *out << foreign.name;
}

class PngForeign : public ::testing::TestWithParam<Foreign> {};

TEST_P(PngForeign, BecomesEightBits) {
  const auto& foreign = GetParam();
  const Image image = decode_png(from_hex(foreign.hex), foreign.name);
  EXPECT_EQ(image.channels, foreign.channels);
  EXPECT_EQ(image.pixels, foreign.pixels);
}

// Written by Pillow, or chunk by chunk with Python's zlib where Pillow does not write such files.
INSTANTIATE_TEST_SUITE_P(
    Table, PngForeign,
    ::testing::Values(
        Foreign{"palette",
                "89504e470d0a1a0a0000000d49484452000000020000000208030000004568fd1600000009504c5445ff000000ff"
                "000000ff"
                "2d4acd8a0000000e49444154789c6360606460620000000e0004c6887cf80000000049454e44ae426082",
                3,
                {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 0, 0}},
        Foreign{"palette_alpha",
                "89504e470d0a1a0a0000000d49484452000000020000000208030000004568fd1600000009504c5445ff000000ff"
                "000000ff"
                "2d4acd8a0000000274524e53ff80080fb36a0000000e49444154789c6360606460620000000e0004c6887cf80000"
                "00004945"
                "4e44ae426082",
                4,
                {255, 0, 0, 255, 0, 255, 0, 128, 0, 0, 255, 255, 255, 0, 0, 255}},
        Foreign{"interlaced",
                "89504e470d0a1a0a0000000d494844520000000200000002080000000120da626e0000000f49444154789c63e062"
                "106190d3"
                "000000f700659f55b2050000000049454e44ae426082",
                1,
                {10, 20, 30, 40}},
        Foreign{"grey16",
                "89504e470d0a1a0a0000000d4948445200000002000000021000000000074d8ebb0000001249444154789c636060"
                "f8ff9fa1"
                "a181911100108003018fb324f30000000049454e44ae426082",
                1,
                {0, 255, 128, 1}},
        Foreign{"one_bit",
                "89504e470d0a1a0a0000000d4948445200000003000000010100000000339b29190000000a49444154789c635800"
                "0000a200"
                "a1dc8db1cc0000000049454e44ae426082",
                1,
                {255, 0, 255}},
        Foreign{"grey_alpha",
                "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b49444154789c63e03c"
                "010000dd"
                "00d25c72748b0000000049454e44ae426082",
                4,
                {9, 9, 9, 200}}),
    [](const auto& info) { return std::string(info.param.name); });

constexpr const char* kThreeTexts =
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000a744558745469746c6500636166e900"
    "ab337a00"
    "0000197a5458747a0000789c4bcecf2d284a2d2e4e4d51481e6e4c0087c156a5c40fc1ce0000001669545874750001000000789c"
    "7bdeb35a"
    "e1c3fc091d0016fb04e6b0eec0830000000c49444154789c636064620600000e0007d76fe4780000000049454e44ae426082";

TEST(Png, ForeignTextsAreRead) {
  PngTexts texts;
  decode_png(from_hex(kThreeTexts), "texts.png", &texts);
  ASSERT_EQ(texts.size(), 3u);
  EXPECT_EQ(texts[0], (PngTexts::value_type{"Title", "caf\xC3\xA9"}));
  EXPECT_EQ(texts[1].second.substr(0, 22), "compressed compressed ");
  EXPECT_EQ(texts[2], (PngTexts::value_type{"u", "\xE7\x8C\xAB \xF0\x9F\x90\x88"}));
}

TEST(Png, AnythingElseIsADataError) {
  const auto good = encode_png(noise(9, 9, 3), {{"parameters", "x"}});
  const auto expect_refusal = [](const std::vector<std::byte>& bytes, const std::string& what) {
    try {
      decode_png(bytes, "bad.png");
      ADD_FAILURE() << what << " was read";
    } catch (const core::DataError& error) {
      EXPECT_NE(std::string(error.what()).find("bad.png"), std::string::npos) << error.what();
    }
  };
  expect_refusal({}, "nothing");
  expect_refusal(from_hex("ffd8ffe000104a46"), "a JPEG");
  for (std::size_t size = 1; size + 12 < good.size(); ++size)
    expect_refusal({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)},
                   std::to_string(size) + " bytes");
  auto wide = good;
  wide[16] = std::byte{0x7f};  // the width's first byte; the CRC is wrong now, too
  expect_refusal(wide, "a picture 2 billion wide");
  PngTexts ignored;
  for (std::size_t i = 0; i < good.size(); ++i) {
    auto damaged = good;
    damaged[i] ^= std::byte{0x10};
    try {
      decode_png(damaged, "damaged.png", &ignored);
    } catch (const core::DataError&) {
    }
  }
}

TEST(Png, TheSizeIsCheckedBeforeMemoryIsTaken) {
  // A header of 100,000 x 100,000 with its right CRC and a few bytes of data.
  std::string header("IHDR\x00\x01\x86\xa0\x00\x01\x86\xa0\x08\x02\x00\x00\x00", 17);
  const auto crc = crc32(0, reinterpret_cast<const Bytef*>(header.data()), 17);
  std::string file("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d", 12);
  file += header;
  for (int shift = 24; shift >= 0; shift -= 8) file += static_cast<char>(crc >> shift);
  const auto bytes = std::as_bytes(std::span(file));
  EXPECT_THROW(decode_png({bytes.begin(), bytes.end()}, "huge.png"), core::DataError);
  EXPECT_THROW(decode_png(encode_png(noise(10, 10, 3)), "a.png", nullptr, 99), core::DataError);
  EXPECT_NO_THROW(decode_png(encode_png(noise(10, 10, 3)), "a.png", nullptr, 100));
  auto claim = encode_png(noise(10, 10, 3));
  claim[33] = std::byte{0x7a};  // the length of the first chunk behind the header: two gigabytes
  try {
    decode_png(claim, "claim.png");
    ADD_FAILURE() << "read";
  } catch (const core::DataError& error) {
    EXPECT_NE(std::string(error.what()).find("a chunk goes beyond its end"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace muster::formats
