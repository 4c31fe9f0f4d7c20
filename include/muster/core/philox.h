// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>

namespace muster::core {

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11): a pure function from
/// counter and key to 128 random bits. Keyed by (seed, item, step), so a result never depends on rank or
/// order.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

/// A stream of numbers for one (seed, item, step).
class Philox {
 public:
  Philox(std::uint64_t seed, std::uint64_t item, std::uint32_t step = 0);
  std::uint32_t next_u32();
  std::uint64_t next_u64();
  float next_uniform();                           ///< [0, 1), 24 random bits
  std::uint64_t next_below(std::uint64_t bound);  ///< unbiased (Lemire's multiply and reject); bound > 0

 private:
  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 4> block_{};
  int used_ = 4;
};

}  // namespace muster::core
