// SPDX-License-Identifier: Apache-2.0
#include "muster/core/env.h"
#include "muster/device/device.h"

#if defined(__x86_64__)
#include <asm/prctl.h>
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace muster::device {

#if defined(__x86_64__)
namespace {

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

bool bit(std::uint64_t value, int position) {
  return (value >> position & 1) != 0;
}

/// Register states that the operating system saves (XCR0).
std::uint64_t enabled_states() {
  constexpr int kOsxsave = 27;
  if (!bit(cpuid(1, 0).ecx, kOsxsave)) return 0;
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

bool has_avx512_bf16() {
  constexpr std::uint64_t kStates = 0xe6;  // XMM, YMM, opmask and both halves of ZMM
  return bit(cpuid(7, 1).eax, 5) && bit(cpuid(7, 0).ebx, 16) && (enabled_states() & kStates) == kStates;
}

bool has_amx_bf16() {
  constexpr std::uint64_t kStates = std::uint64_t{1} << 17 | std::uint64_t{1}
                                                                 << 18;  // tile configuration and data
  if (!bit(cpuid(7, 0).edx, 22) || (enabled_states() & kStates) != kStates) return false;
  // A process must be granted the tile registers; the kernel tells which states it would grant.
  std::uint64_t supported = 0;
  return ::syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &supported) == 0 && (supported & kStates) == kStates;
}

// LibTorch's own switch for using less than the processor has ("avx2", "default"); what runs beside it
// follows.
bool may_use_avx512() {
  const auto limit = core::env("ATEN_CPU_CAPABILITY");
  return !limit || (*limit != "avx2" && *limit != "default");
}

}  // namespace

bool cpu_has_bf16() {
  static const bool answer = may_use_avx512() && (has_avx512_bf16() || has_amx_bf16());
  return answer;
}

bool cpu_has_amx() {
  static const bool answer = may_use_avx512() && has_amx_bf16();
  return answer;
}
#else
bool cpu_has_bf16() {
  return false;
}

bool cpu_has_amx() {
  return false;
}
#endif

}  // namespace muster::device
