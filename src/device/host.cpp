// SPDX-License-Identifier: Apache-2.0
#include <sched.h>

#include <fstream>
#include <string>

#include "muster/core/strings.h"
#include "muster/device/device.h"

namespace muster::device {
namespace {

/// The rest of the first line of `path` that starts with `key`, after its colon.
std::string line_value(const char* path, std::string_view key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    const auto colon = line.find(':');
    if (colon == std::string::npos || core::trim(std::string_view(line).substr(0, colon)) != key) continue;
    return std::string(core::trim(std::string_view(line).substr(colon + 1)));
  }
  return {};
}

}  // namespace

std::uint64_t peak_host_bytes() {
  constexpr std::uint64_t kKilobyte = 1024;
  const std::string text = line_value("/proc/self/status", "VmHWM");
  return text.empty() ? 0 : std::stoull(text) * kKilobyte;
}

std::string cpu_model() {
  const std::string model = line_value("/proc/cpuinfo", "model name");
  return model.empty() ? "unknown CPU" : model;
}

bool pin_thread(std::span<const int> cores) {
  constexpr std::size_t kMaxCores = 8192;
  std::vector<std::uint64_t> words(kMaxCores / 64);
  for (const int core : cores) {
    if (core < 0 || static_cast<std::size_t>(core) >= kMaxCores) return false;
    words[static_cast<std::size_t>(core) / 64] |= std::uint64_t{1} << (core % 64);
  }
  return ::sched_setaffinity(0, words.size() * sizeof(words[0]),
                             reinterpret_cast<const cpu_set_t*>(words.data())) == 0;
}

}  // namespace muster::device
