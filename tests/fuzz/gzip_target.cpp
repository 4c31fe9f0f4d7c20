// SPDX-License-Identifier: Apache-2.0
#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "muster/formats/byte_source.h"
#include "support/gzip.h"

namespace muster::fuzz {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{1} << 22;  // a small file may unpack to gigabytes

std::optional<std::string> unpacked(std::string_view file, std::uint8_t portions) {
  return unless<core::DataError>([&] {
    return read_all(*formats::decompress_source(portioned_source(std::string(file), portions), "fuzz.gz"),
                    kMaxBytes);
  });
}

/// Any bytes as a file.
void unpack(std::string_view file, std::uint8_t portions) {
  const auto text = unpacked(file, 0);
  expect(text == unpacked(file, portions), "the text does not depend on how the file's bytes arrive");
  if (text && !file.starts_with("\x1f\x8b"))
    expect(*text == file.substr(0, kMaxBytes), "a plain file is handed through");
}

/// A packed text reads back; cut off or with one byte changed it never gives another text.
void pack_and_damage(std::string_view bytes, std::uint16_t where, std::uint8_t flip, std::uint8_t portions) {
  const std::string text = "no magic bytes: " + std::string(bytes);
  const std::size_t half = where % text.size();
  const std::string file =
      testing::gzip(text.substr(0, half)) + testing::gzip(text.substr(half)) + std::string(flip % 3, '\0');
  expect(unpacked(file, portions) == text, "what was packed is unpacked");

  constexpr std::size_t kMagicBytes = 2;
  const std::string one = testing::gzip(text);
  const std::size_t kept = kMagicBytes + where % (one.size() - kMagicBytes);
  expect(!unpacked(one.substr(0, kept), portions), "a member that is cut off is noticed");
  std::string damaged = one;
  damaged[kept] = static_cast<char>(damaged[kept] ^ flip);
  const auto read = unpacked(damaged, portions);
  expect(!read || *read == text, "a damaged byte is noticed or does not matter");
}

}  // namespace

void gzip(std::string_view bytes) {
  Input input(bytes);
  const std::uint8_t mode = input.byte(), portions = input.byte();
  if (mode % 2 == 0) return unpack(input.rest(), portions);
  const std::uint16_t where = input.number();
  const std::uint8_t flip = input.byte();
  pack_and_damage(input.rest(), where, flip, portions);
}

}  // namespace muster::fuzz
