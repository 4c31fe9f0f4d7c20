// SPDX-License-Identifier: Apache-2.0
// The NCCL backend's own code (staging, cutting, polling, deadline, abort) on a stand-in for CUDA and NCCL.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "comm/cuda/nccl_backend.h"
#include "fake_cuda.h"
#include "muster/core/clock.h"
#include "muster/core/half.h"
#include "support/collective_checks.h"
#include "support/mpi_test.h"

extern "C" void muster_nccl_unique_id(muster::comm::NcclId* out);
extern "C" muster::comm::Backend* muster_nccl_create(const muster::comm::NcclSetup* setup);

namespace muster::comm {
namespace {

int plain(void* to, const void* from, std::uint64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return 0;
}

void* device_allocate(std::size_t bytes) {
  void* pointer = nullptr;
  cudaMalloc(&pointer, bytes);
  return pointer;
}
void device_release(void* pointer) {
  cudaFree(pointer);
}

constexpr test::TestMemory kHost{Memory::kHost, std::malloc, std::free, {plain, plain}};
constexpr test::TestMemory kDevice{Memory::kDevice, device_allocate, device_release, {plain, plain}};

NcclConfig with_staging(std::size_t bytes) {
  NcclConfig config;
  config.staging_bytes = bytes;
  return config;
}

Communicator make_nccl(const NcclConfig& config) {
  const RankPlace& place = test::session().place();
  NcclSetup setup{{}, place.rank, place.size, config};
  muster_nccl_unique_id(&setup.id);
  return Communicator(std::unique_ptr<Backend>(muster_nccl_create(&setup)));
}

template <class T>
class NcclCollectives : public testing::Test {
 protected:
  template <class Check>
  void on_all_modes(const Check& check) {
    for (const std::size_t staging : {std::size_t{1} << 20, std::size_t{1000}, std::size_t{40}}) {
      for (const test::TestMemory* memory : {&kHost, &kDevice}) {
        SCOPED_TRACE(std::to_string(staging) + (memory == &kHost ? " host" : " device"));
        Communicator communicator = make_nccl(with_staging(staging));
        check(communicator, *memory);
      }
    }
  }
};

TYPED_TEST_SUITE(NcclCollectives, test::CollectiveTypes);

TYPED_TEST(NcclCollectives, Broadcast) {
  this->on_all_modes(test::check_broadcast<TypeParam>);
}
TYPED_TEST(NcclCollectives, AllReduce) {
  this->on_all_modes(test::check_all_reduce<TypeParam>);
}
TYPED_TEST(NcclCollectives, AllGather) {
  this->on_all_modes(test::check_all_gather<TypeParam>);
}
TYPED_TEST(NcclCollectives, Gatherv) {
  this->on_all_modes(test::check_gatherv<TypeParam>);
}
TYPED_TEST(NcclCollectives, Scatterv) {
  this->on_all_modes(test::check_scatterv<TypeParam>);
}
TYPED_TEST(NcclCollectives, AllToAllv) {
  this->on_all_modes(test::check_all_to_allv<TypeParam>);
}
TYPED_TEST(NcclCollectives, SendAndReceiveRoundTheRing) {
  this->on_all_modes(test::check_ring<TypeParam>);
}

TEST(NcclBackend, SixteenBitSumsAreWidened) {
  const int ranks = test::session().place().size;
  for (const bool bf16 : {true, false}) {
    Communicator world = make_nccl(with_staging(1000));
    const auto narrow = bf16 ? core::float_to_bfloat16 : core::float_to_half;
    const float unit = bf16 ? 0x1p-7f : 0x1p-10f;
    std::vector<std::uint16_t> values(3000, narrow(world.is_root() ? 1.0f : unit / 2));
    world.all_reduce(Buffer(values.data(), values.size(), bf16 ? DType::kBF16 : DType::kF16, Memory::kHost));
    EXPECT_EQ(values,
              std::vector<std::uint16_t>(3000, narrow(1.0f + static_cast<float>(ranks - 1) * unit / 2)));
  }
}

TEST(NcclBackend, BarrierSplitAndDuplicate) {
  Communicator world = make_nccl(with_staging(1000));
  world.barrier();
  Communicator copy = world.duplicate();
  EXPECT_EQ(copy.size(), world.size());
  EXPECT_EQ(copy.all_reduce_value<std::int32_t>(1, Op::kSum), world.size());
  Communicator only_root = world.split(world.is_root() ? 0 : -1, 0);
  EXPECT_EQ(static_cast<bool>(only_root), world.is_root());
  EXPECT_EQ(world.backend_name(), "nccl");
  EXPECT_THROW(world.probe(0), core::CommError);
}

/// Runs a barrier that fails and checks that the calling thread aborted the communicator, once, and said why.
void expect_failure(Communicator& world, const char* text) {
  const int before = test::fake_cuda().aborts;
  try {
    world.barrier();
    ADD_FAILURE() << "no error";
  } catch (const core::CommError& error) {
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("what NCCL said last"), std::string::npos) << error.what();
  }
  EXPECT_EQ(test::fake_cuda().aborts, before + 1);
  EXPECT_EQ(test::fake_cuda().aborted_by, std::this_thread::get_id());
  EXPECT_THROW(world.barrier(), core::CommError) << "an aborted communicator is of no use";
}

TEST(NcclBackend, AHangEndsAtTheDeadline) {
  NcclConfig config;
  config.timeout_seconds = 0.2;
  Communicator world = make_nccl(config);
  test::fake_cuda().device_hangs = true;
  const double start = core::monotonic_seconds();
  expect_failure(world, "not done after 0.2");
  EXPECT_LT(core::monotonic_seconds() - start, 5);
  test::fake_cuda().device_hangs = false;
}

TEST(NcclBackend, AnErrorOfAPeerIsReported) {
  Communicator world = make_nccl({});
  test::fake_cuda().communicator_fails = true;
  expect_failure(world, "remote process exited");
  test::fake_cuda().communicator_fails = false;
}

TEST(NcclBackend, AbortFromAnotherThreadWakesTheCaller) {
  Communicator world = make_nccl({});
  test::fake_cuda().device_hangs = true;
  std::thread other([&world] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    world.abort("the watchdog says so");
  });
  expect_failure(world, "abort was asked for");
  other.join();
  test::fake_cuda().device_hangs = false;
}

TEST(NcclBackend, AWrongPointerIsAnErrorThatNamesTheCall) {
  Communicator world = make_nccl({});
  std::int32_t on_host = 0;
  try {
    world.all_reduce(Buffer(&on_host, 1, DType::kI32, Memory::kDevice));
    FAIL() << "no error";
  } catch (const core::CommError& error) {
    EXPECT_EQ(std::string(error.what()).find("ncclAllReduce on rank "), 0u) << error.what();
  }
}

}  // namespace
}  // namespace muster::comm
