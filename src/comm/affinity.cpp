// SPDX-License-Identifier: Apache-2.0
#include "comm/affinity.h"

#include <sched.h>

#include <cerrno>

#include "muster/core/error.h"

namespace muster::comm {
namespace {

constexpr std::size_t kMaxCores = 8192;  // the kernel's own limit on x86 and arm64
constexpr std::size_t kWords = kMaxCores / 64;

/// The kernel's view of a mask: plain 64-bit words (unsigned long on every 64-bit Linux).
struct Mask {
  std::vector<std::uint64_t> words = std::vector<std::uint64_t>(kWords);
  cpu_set_t* set() { return reinterpret_cast<cpu_set_t*>(words.data()); }
  std::size_t bytes() const { return kWords * sizeof(std::uint64_t); }
};

Mask read_mask() {
  Mask mask;
  if (::sched_getaffinity(0, mask.bytes(), mask.set()) != 0) {
    throw core::CommError("sched_getaffinity failed: " + core::errno_text(errno));
  }
  return mask;
}

}  // namespace

std::vector<int> current_affinity() {
  return affinity_cores(read_mask().words);
}

std::vector<int> available_cores() {
  // The kernel cuts a mask of everything down to the cpuset, which no other interface tells on both cgroup
  // versions.
  Mask before = read_mask();
  Mask all;
  all.words.assign(kWords, ~std::uint64_t{0});
  if (::sched_setaffinity(0, all.bytes(), all.set()) != 0) return affinity_cores(before.words);
  auto cores = current_affinity();
  ::sched_setaffinity(0, before.bytes(), before.set());
  return cores;
}

std::vector<std::uint64_t> affinity_words(std::span<const int> cores) {
  std::vector<std::uint64_t> words(kWords);
  for (const int core : cores) words[static_cast<std::size_t>(core) / 64] |= std::uint64_t{1} << (core % 64);
  return words;
}

std::vector<int> affinity_cores(std::span<const std::uint64_t> words) {
  std::vector<int> cores;
  for (std::size_t bit = 0; bit < words.size() * 64; ++bit) {
    if (words[bit / 64] >> (bit % 64) & 1) cores.push_back(static_cast<int>(bit));
  }
  return cores;
}

}  // namespace muster::comm
