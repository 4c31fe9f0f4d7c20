// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace muster::core {

/// Streaming SHA-256 (FIPS 180-4, libcrypto).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void update(std::span<const std::byte> bytes);
  void update(std::string_view bytes);
  /// 32 bytes; the object is spent afterwards.
  std::array<std::uint8_t, 32> finish();
  std::string finish_hex();  ///< 64 lower-case hex digits

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string sha256_hex(std::string_view bytes);
/// Of a whole file; DataError when it cannot be read.
std::string sha256_file(const std::string& path);

/// CRC-32C (Castagnoli, RFC 3720), `seed` continues an earlier value.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed = 0);
std::uint32_t crc32c(std::string_view bytes, std::uint32_t seed = 0);

/// 64-bit hash for tables in memory (not stable over versions, never written to files).
std::uint64_t hash64(std::string_view bytes, std::uint64_t seed = 0);

}  // namespace muster::core
