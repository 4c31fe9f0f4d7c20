// SPDX-License-Identifier: Apache-2.0
#include "device/host_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <utility>

#include "support/child_process.h"

namespace muster::device {
namespace {

constexpr std::uint64_t kMega = 1 << 20;

struct Case {
  const char* name;
  std::vector<std::pair<const char*, const char*>> files;
  std::uint64_t total_megabytes, free_megabytes;
};

const Case kCases[] = {
    {"NoGroups", {}, 16384, 8192},
    {"Version2Unlimited",
     {{"proc/self/cgroup", "0::/job\n"},
      {"sys/fs/cgroup/job/memory.max", "max\n"},
      {"sys/fs/cgroup/job/memory.current", "1048576\n"}},
     16384,
     8192},
    {"Version2",
     {{"proc/self/cgroup", "0::/slurm/job_1\n"},
      {"sys/fs/cgroup/slurm/job_1/memory.max", "4294967296\n"},
      {"sys/fs/cgroup/slurm/job_1/memory.current", "3221225472\n"},
      {"sys/fs/cgroup/slurm/job_1/memory.stat", "anon 1\ninactive_file 1073741824\nactive_file 5\n"}},
     4096,
     2048},
    {"Version2LimitAbove",  // the parent is the narrow one
     {{"proc/self/cgroup", "0::/slurm/job_1\n"},
      {"sys/fs/cgroup/slurm/memory.max", "2147483648\n"},
      {"sys/fs/cgroup/slurm/memory.current", "1073741824\n"},
      {"sys/fs/cgroup/slurm/job_1/memory.max", "4294967296\n"},
      {"sys/fs/cgroup/slurm/job_1/memory.current", "1048576\n"}},
     2048,
     1024},
    {"Version2InAContainer",  // the path is the host's; the mount is our group
     {{"proc/self/cgroup", "0::/docker/abc\n"},
      {"sys/fs/cgroup/memory.max", "1073741824\n"},
      {"sys/fs/cgroup/memory.current", "2147483648\n"}},
     1024,
     0},
    {"Version1",
     {{"proc/self/cgroup", "9:name=systemd:/\n4:memory:/box\n3:cpu,cpuacct:/x\n0::/\n"},
      {"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
      {"sys/fs/cgroup/memory/box/memory.limit_in_bytes", "8589934592\n"},
      {"sys/fs/cgroup/memory/box/memory.usage_in_bytes", "2147483648\n"},
      {"sys/fs/cgroup/memory/box/memory.stat", "cache 9\ntotal_inactive_file 1073741824\n"}},
     8192,
     7168},
    {"LimitAboveTheMachine",
     {{"proc/self/cgroup", "0::/job\n"}, {"sys/fs/cgroup/job/memory.max", "99999999999999\n"}},
     16384,
     8192},
};

class HostMemory : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Table, HostMemory, testing::ValuesIn(kCases),
                         [](const auto& test) { return test.param.name; });

TEST_P(HostMemory, IsWhatTheGroupsLeave) {
  const test::TemporaryFolder root;
  const auto write = [&](const std::string& name, const char* text) {
    const std::filesystem::path path = root.path() + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  };
  write("proc/meminfo",
        "MemTotal:       16777216 kB\nMemFree:         1000 kB\nMemAvailable:    8388608 kB\n");
  for (const auto& [name, text] : GetParam().files) write(name, text);
  const MemoryInfo info = host_memory(root.path());
  EXPECT_EQ(info.total_bytes, GetParam().total_megabytes * kMega);
  EXPECT_EQ(info.free_bytes, std::min(GetParam().free_megabytes, std::uint64_t{8192}) * kMega);
}

TEST(HostMemoryHere, IsPlausible) {
  const MemoryInfo info = memory_info({});
  EXPECT_GT(info.total_bytes, 64 * kMega);
  EXPECT_GT(info.free_bytes, 0u);
  EXPECT_LE(info.free_bytes, info.total_bytes);
}

}  // namespace
}  // namespace muster::device
