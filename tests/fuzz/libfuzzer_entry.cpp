// SPDX-License-Identifier: Apache-2.0
// What libFuzzer calls. MUSTER_FUZZ_TARGET is the name of the target that this program is made of.
#include <cstddef>
#include <cstdint>

#include "fuzz/targets.h"
#include "muster/core/log.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  muster::core::log::set_console_level(
      muster::core::log::Level::kError);  // warnings about what is fed would be all one sees
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  muster::fuzz::MUSTER_FUZZ_TARGET({reinterpret_cast<const char*>(data), size});
  return 0;
}
