// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

namespace muster::nn::kernels {

/// A stream of 16-bit random numbers and from which on an element is kept.
struct KeepStream {
  std::uint32_t key[2] = {};
  std::uint32_t counter[3] = {};  ///< behind the block number
  std::uint16_t threshold = 0;
};

/// Sets bit e when number e of the stream is at least the threshold, for whole 64-bit words: `bits` has
/// keep_bytes(elements) bytes, bit 0 the lowest of the first.
void keep_bits(const KeepStream& stream, std::int64_t elements, std::uint8_t* bits);

constexpr std::int64_t keep_bytes(std::int64_t elements) {
  return (elements + 63) / 64 * 8;
}

}  // namespace muster::nn::kernels
