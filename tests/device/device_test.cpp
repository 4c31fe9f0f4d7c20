// SPDX-License-Identifier: Apache-2.0
#include "muster/device/device.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "device/device_choice.h"
#include "muster/core/error.h"

namespace muster::device {
namespace {

const GpuState kNone{0, "libmuster_cuda.so cannot be opened: no such file"};

struct ChoiceCase {
  const char* name;
  DeviceConfig config;
  GpuState gpus;
  int local_rank;
  const char* device;
};

const ChoiceCase kChoices[] = {
    {"AutoWithoutGpu", {"auto", {}}, kNone, 3, "cpu"},
    {"CpuWithGpus", {"cpu", {}}, {4, ""}, 3, "cpu"},
    {"AutoTakesItsOwn", {"auto", {}}, {4, ""}, 3, "cuda:3"},
    {"CudaGoesRound", {"cuda", {}}, {4, ""}, 5, "cuda:1"},
    {"IdsLimitAndOrder", {"cuda", {3, 1}}, {4, ""}, 0, "cuda:3"},
    {"IdsGoRound", {"auto", {3, 1}}, {4, ""}, 3, "cuda:1"},
};

class DeviceChoice : public testing::TestWithParam<ChoiceCase> {};
INSTANTIATE_TEST_SUITE_P(Table, DeviceChoice, testing::ValuesIn(kChoices),
                         [](const auto& test) { return test.param.name; });

TEST_P(DeviceChoice, IsByLocalRank) {
  EXPECT_EQ(choose_device(GetParam().config, GetParam().local_rank, GetParam().gpus).name(),
            GetParam().device);
}

struct RefusalCase {
  const char* name;
  DeviceConfig config;
  GpuState gpus;
  const char* text;
};

const RefusalCase kRefusals[] = {
    {"NoLibrary", {"cuda", {}}, kNone, "libmuster_cuda.so cannot be opened: no such file"},
    {"UnknownName", {"gpu", {}}, {4, ""}, "unknown device 'gpu'"},
    {"IdTooLarge", {"cuda", {0, 4}}, {4, ""}, "GPU 4"},
    {"IdNegative", {"auto", {-1}}, {4, ""}, "GPU -1"},
};

class DeviceRefusal : public testing::TestWithParam<RefusalCase> {};
INSTANTIATE_TEST_SUITE_P(Table, DeviceRefusal, testing::ValuesIn(kRefusals),
                         [](const auto& test) { return test.param.name; });

TEST_P(DeviceRefusal, IsAConfigErrorThatSaysWhy) {
  try {
    choose_device(GetParam().config, 0, GetParam().gpus);
    FAIL() << "no error";
  } catch (const core::ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find(GetParam().text), std::string::npos) << error.what();
  }
}

TEST(DeviceHere, CudaIsThereOrItsMissingPartIsNamed) {
  if (gpu_count() > 0) {
    EXPECT_EQ(choose_device({"cuda", {}}, 0).kind, Kind::kCuda);
    return;
  }
  EXPECT_EQ(choose_device({"auto", {}}, 0), Device{});
  try {
    choose_device({"cuda", {}}, 0);
    FAIL() << "no error";
  } catch (const core::ConfigError& error) {
    const std::string text = error.what();
    const char* const part = cuda_services() == nullptr                 ? "libmuster_cuda.so"
                             : text.find("driver") != std::string::npos ? "driver"
                                                                        : "GPU";
    EXPECT_NE(text.find(part), std::string::npos) << text;
  }
}

TEST(DeviceHere, PeakMemoryGrowsWithUse) {
  const std::uint64_t before = peak_host_bytes();
  ASSERT_GT(before, 1u << 20);
  constexpr std::size_t kBytes = std::size_t{96} << 20;
  std::vector<char> block(kBytes + before);
  std::memset(block.data(), 1, block.size());
  EXPECT_GE(peak_host_bytes(), before + kBytes / 2);
}

TEST(DeviceHere, TheCpuHasAName) {
  EXPECT_FALSE(cpu_model().empty());
}

TEST(DeviceHere, Bf16AgreesWithTheKernelsList) {
  std::ifstream file("/proc/cpuinfo");
  std::stringstream text;
  text << file.rdbuf();
  const bool listed = text.str().find(" avx512_bf16") != std::string::npos ||
                      text.str().find(" amx_bf16") != std::string::npos;
  EXPECT_EQ(cpu_has_bf16(), listed);
}

TEST(DeviceHere, PinningHoldsForTheCallingThreadOnly) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  int core = 0;
  while (!CPU_ISSET(core, &before)) ++core;
  std::thread([core] {
    EXPECT_TRUE(pin_thread(std::vector<int>{core}));
    cpu_set_t pinned;
    ASSERT_EQ(::sched_getaffinity(0, sizeof pinned, &pinned), 0);
    EXPECT_EQ(CPU_COUNT(&pinned), 1);
    EXPECT_TRUE(CPU_ISSET(core, &pinned));
  }).join();
  cpu_set_t after;
  ASSERT_EQ(::sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(DeviceHere, PinningToNoCoreIsRefused) {
  EXPECT_FALSE(pin_thread({}));
  EXPECT_FALSE(pin_thread(std::vector<int>{-1}));
  EXPECT_FALSE(pin_thread(std::vector<int>{8191}));
}

}  // namespace
}  // namespace muster::device
