// SPDX-License-Identifier: Apache-2.0
#include <random>

#include "muster/formats/byte_source.h"
#include "testing.h"

namespace muster::formats {
namespace {

using testing::data_error_of;
using testing::gzip;

std::string read_all(const std::string& raw, std::size_t step = 1000) {
  const auto source = decompress_source(memory_source(raw), "x.gz");
  std::string out, block(step, '\0');
  while (const std::size_t n = source->read(block)) out.append(block, 0, n);
  EXPECT_EQ(source->read(block), 0u) << "the end must stay the end";
  return out;
}

std::string noise(std::size_t bytes) {
  std::mt19937_64 random(3);
  std::string out(bytes, '\0');
  for (char& c : out) c = static_cast<char>('a' + random() % 20);
  return out;
}

TEST(Gzip, WholeStreamsComeOut) {
  const std::string big = noise(700'000);
  const std::string cases[][2] = {
      {"", ""},
      {"a", "a"},
      {"\x1f", "\x1f"},
      {"plain text\n", "plain text\n"},
      {gzip("hello\n"), "hello\n"},
      {gzip(""), ""},
      {gzip(big), big},
      {gzip("one\n") + gzip("two\n") + gzip("") + gzip("three"), "one\ntwo\nthree"},
      {gzip("") + gzip("x"), "x"},
      {gzip("padded") + std::string(1000, '\0'), "padded"},
      {gzip(big) + gzip(big), big + big},
  };
  for (const auto& [raw, text] : cases) {
    for (const std::size_t step : {std::size_t{1000}, std::size_t{1} << 20})
      EXPECT_EQ(read_all(raw, step), text);
  }
}

TEST(Gzip, EveryTruncationIsFound) {
  const std::string whole = gzip("some text, some more text and the same text again");
  for (std::size_t n = 2; n < whole.size(); ++n) {
    const auto message = data_error_of([&] { read_all(whole.substr(0, n)); });
    EXPECT_NE(message.find("ends early at byte " + std::to_string(n) + " "), std::string::npos) << message;
    EXPECT_TRUE(message.starts_with("x.gz: "));
    data_error_of([&] { read_all(gzip("first") + whole.substr(0, n)); });
  }
}

TEST(Gzip, NoFlippedBitChangesTheText) {
  const std::string text = "some text, some more text and the same text again";
  const std::string whole = gzip(text);
  int found = 0, harmless = 0;
  for (std::size_t bit = 10 * 8; bit < whole.size() * 8;
       ++bit) {  // the ten header bytes hold time and system
    std::string bad = whole;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    try {
      EXPECT_EQ(read_all(bad), text);
      ++harmless;
    } catch (const core::DataError&) {
      ++found;
    }
  }
  EXPECT_LT(harmless, 8) << "only the padding bits of the last byte before the checksum may be free";
  EXPECT_GT(found, 300);
}

TEST(Gzip, SomethingAfterTheEndIsRefused) {
  const std::vector<std::string> tails = {"garbage", std::string("\0\0x", 3), "\x1f",
                                          std::string(5, '\0') + gzip("x")};
  for (const auto& tail : tails) {
    data_error_of([&] { read_all(gzip("text") + tail); });
  }
}

TEST(Gzip, OtherFormatsAreNamed) {
  const std::pair<std::string, std::string> cases[] = {
      {"\x28\xb5\x2f\xfd....", "zstd"},
      {std::string("\xfd"
                   "7zXZ\0..",
                   8),
       "xz"},
      {"BZh91AY&SY", "bzip2"},
      {"PK\x03\x04....", "zip"},
      {"\x89HDF\r\n\x1a\n", "HDF5"},
      {std::string("\xff\xfe"
                   "a\0",
                   4),
       "UTF-16"},
      {std::string("\xfe\xff\0a", 4), "UTF-16"},
  };
  for (const auto& [bytes, what] : cases) {
    for (const auto& raw : {bytes, gzip(bytes)}) {
      EXPECT_NE(data_error_of([&] { read_all(raw); }).find(what), std::string::npos) << what;
    }
  }
}

}  // namespace
}  // namespace muster::formats
