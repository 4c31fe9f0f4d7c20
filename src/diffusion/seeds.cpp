// SPDX-License-Identifier: Apache-2.0
#include "muster/diffusion/text_to_image.h"

namespace muster::diffusion {

std::uint64_t picture_seed(std::uint64_t seed, std::uint64_t row, std::uint64_t copy) {
  constexpr std::uint64_t kMost = (std::uint64_t{1} << 63) - 1;  // seeds fit into signed columns everywhere
  return (seed + row + (copy << 32)) & kMost;
}

}  // namespace muster::diffusion
