// SPDX-License-Identifier: Apache-2.0
#include "muster/core/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "muster/core/error.h"
#include "muster/core/file.h"

namespace muster::core {

struct Sha256::Context {
  EVP_MD_CTX* md = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(md); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  internal_check(context_->md != nullptr && EVP_DigestInit_ex(context_->md, EVP_sha256(), nullptr) == 1,
                 "libcrypto has no SHA-256");
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::byte> bytes) {
  EVP_DigestUpdate(context_->md, bytes.data(), bytes.size());
}
void Sha256::update(std::string_view bytes) {
  EVP_DigestUpdate(context_->md, bytes.data(), bytes.size());
}

std::array<std::uint8_t, 32> Sha256::finish() {
  std::array<std::uint8_t, 32> out{};
  EVP_DigestFinal_ex(context_->md, out.data(), nullptr);
  return out;
}

std::string Sha256::finish_hex() {
  std::string out;
  for (const auto byte : finish()) out += fmt::format("{:02x}", byte);
  return out;
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 sha;
  sha.update(bytes);
  return sha.finish_hex();
}

std::string sha256_file(const std::string& path) {
  // Read, not mapped: the pages of a large model would count as memory of this process.
  const UniqueFd fd = open_for_reading(path);
  std::vector<std::byte> block(std::size_t{1} << 20);
  Sha256 sha;
  const std::uint64_t size = file_size(path);
  for (std::uint64_t offset = 0; offset < size; offset += block.size()) {
    const auto part = std::span(block).first(std::min<std::uint64_t>(block.size(), size - offset));
    pread_all(fd.get(), part, offset, path);
    sha.update(part);
  }
  return sha.finish_hex();
}

namespace {

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = (c >> 1) ^ ((c & 1) ? 0x82F63B78u : 0u);
    table[i] = c;
  }
  return table;
}
constexpr auto kCrcTable = make_crc_table();

std::uint32_t crc_portable(const std::uint8_t* p, std::size_t n, std::uint32_t crc) {
  while (n-- > 0) crc = (crc >> 8) ^ kCrcTable[(crc ^ *p++) & 0xff];
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t crc_sse42(const std::uint8_t* p, std::size_t n,
                                                          std::uint32_t crc) {
  std::uint64_t wide = crc;
  for (; n >= 8; n -= 8, p += 8) {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    wide = __builtin_ia32_crc32di(wide, word);
  }
  crc = static_cast<std::uint32_t>(wide);
  for (; n > 0; --n) crc = __builtin_ia32_crc32qi(crc, *p++);
  return crc;
}
#endif

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(bytes.data());
  const std::uint32_t start = ~seed;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return ~crc_sse42(p, bytes.size(), start);
#endif
  return ~crc_portable(p, bytes.size(), start);
}

std::uint32_t crc32c(std::string_view bytes, std::uint32_t seed) {
  return crc32c(std::as_bytes(std::span(bytes.data(), bytes.size())), seed);
}

std::uint64_t hash64(std::string_view bytes, std::uint64_t seed) {
  // Multiply-and-fold over 8-byte words; quality is enough for tables, not for adversaries.
  constexpr std::uint64_t kA = 0x9E3779B97F4A7C15ull, kB = 0xD6E8FEB86659FD93ull;
  const auto fold = [](std::uint64_t a, std::uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  };
  std::uint64_t h = fold(seed ^ kA, bytes.size() ^ kB);
  const char* p = bytes.data();
  std::size_t n = bytes.size();
  for (; n >= 8; n -= 8, p += 8) {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    h = fold(h ^ word, kB);
  }
  if (n > 0) {  // an empty view may hold a null pointer
    std::uint64_t tail = 0;
    std::memcpy(&tail, p, n);
    h = fold(h ^ tail, kA);
  }
  return fold(h, kB);
}

}  // namespace muster::core
