// SPDX-License-Identifier: Apache-2.0
#include "device/host_memory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

#include "muster/core/strings.h"

namespace muster::device {
namespace {

namespace fs = std::filesystem;

/// Names of one version's files.
struct Flavour {
  const char* mount;  ///< below /sys/fs/cgroup
  const char* limit;
  const char* usage;
  const char* inactive;  ///< line of memory.stat: page cache that the kernel gives back first
};
constexpr Flavour kVersion1{"memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                            "total_inactive_file"};
constexpr Flavour kVersion2{"", "memory.max", "memory.current", "inactive_file"};

/// The number at the start of a file; nullopt when there is none ("max").
std::optional<std::uint64_t> read_number(const fs::path& path) {
  std::ifstream file(path);
  std::uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

/// The number after `key` in a file of "key number" lines.
std::uint64_t read_field(const fs::path& path, std::string_view key) {
  std::ifstream file(path);
  std::string name;
  std::uint64_t value = 0;
  while (file >> name >> value) {
    if (name == key) return value;
    file.ignore(256, '\n');
  }
  return 0;
}

/// This process's group below the mount of `flavour`, from /proc/self/cgroup ("4:memory:/a/b", "0::/a/b").
std::optional<std::string> group_path(const std::string& root, const Flavour& flavour) {
  std::ifstream file(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const auto controllers = core::split(std::string_view(line).substr(first + 1, second - first - 1), ',');
    if (std::ranges::find(controllers, flavour.mount) != controllers.end()) return line.substr(second + 1);
  }
  return std::nullopt;
}

void narrow(const fs::path& group, const Flavour& flavour, MemoryInfo* info) {
  const auto limit = read_number(group / flavour.limit);
  if (!limit || *limit >= info->total_bytes) return;
  const std::uint64_t usage = read_number(group / flavour.usage).value_or(0);
  const std::uint64_t held = usage - std::min(usage, read_field(group / "memory.stat", flavour.inactive));
  info->total_bytes = *limit;
  info->free_bytes = std::min(info->free_bytes, *limit - std::min(*limit, held));
}

/// A limit may stand at any level from the process's group up to the mount. Inside a container the path may
/// be the host's, which is not there; the mount itself is then the container's group.
void narrow_along(const std::string& root, const Flavour& flavour, MemoryInfo* info) {
  const auto path = group_path(root, flavour);
  if (!path) return;
  const fs::path mount = fs::path(root + "/sys/fs/cgroup") / flavour.mount;
  fs::path group = mount;
  narrow(group, flavour, info);
  for (const auto& part : fs::path(*path).relative_path()) {
    group /= part;
    narrow(group, flavour, info);
  }
}

}  // namespace

MemoryInfo host_memory(const std::string& root) {
  constexpr std::uint64_t kKilobyte = 1024;
  const std::string meminfo = root + "/proc/meminfo";
  MemoryInfo info;
  info.total_bytes = read_field(meminfo, "MemTotal:") * kKilobyte;
  info.free_bytes = read_field(meminfo, "MemAvailable:") * kKilobyte;
  narrow_along(root, kVersion1, &info);
  narrow_along(root, kVersion2, &info);
  return info;
}

}  // namespace muster::device
