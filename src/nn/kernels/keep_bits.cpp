// SPDX-License-Identifier: Apache-2.0
#include "nn/kernels/keep_bits.h"

#include "muster/core/philox.h"

namespace muster::nn::kernels {

void keep_bits(const KeepStream& stream, std::int64_t elements, std::uint8_t* bits) {
  const std::int64_t blocks = keep_bytes(elements);  // a block of eight numbers makes a byte
  for (std::int64_t block = 0; block < blocks; ++block) {
    const auto words = core::philox4x32(
        {static_cast<std::uint32_t>(block), stream.counter[0], stream.counter[1], stream.counter[2]},
        {stream.key[0], stream.key[1]});
    unsigned byte = 0;
    for (unsigned word = 0; word < 4; ++word) {
      byte |= static_cast<unsigned>((words[word] & 0xffffu) >= stream.threshold) << (2 * word);
      byte |= static_cast<unsigned>((words[word] >> 16) >= stream.threshold) << (2 * word + 1);
    }
    bits[block] = static_cast<std::uint8_t>(byte);
  }
}

}  // namespace muster::nn::kernels
