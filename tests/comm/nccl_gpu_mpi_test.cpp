// SPDX-License-Identifier: Apache-2.0
// libmuster_cuda.so on a real GPU with the real NCCL, through the door that the program uses; skipped where
// there is no GPU. One rank runs every path but those that need a peer. Two ranks may share a GPU if each
// says another NCCL_HOSTID. The suite NcclAbort leaves the GPU's context unusable: one test a process.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "endless_kernel.h"
#include "muster/comm/nccl.h"
#include "muster/core/clock.h"
#include "muster/core/half.h"
#include "support/collective_checks.h"
#include "support/mpi_test.h"

namespace muster::comm {
namespace {

constexpr double kDeadline = 8;   // longer than it takes to start NCCL
constexpr double kPatience = 20;  // for the abort itself
constexpr double kPeerTimeout = 8;

int to_host(void* host, const void* device, std::uint64_t bytes) {
  return cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost);
}
int to_device(void* device, const void* host, std::uint64_t bytes) {
  return cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice);
}
int on_host(void* to, const void* from, std::uint64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return 0;
}
void* device_allocate(std::size_t bytes) {
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, bytes), cudaSuccess);
  return pointer;
}
void device_release(void* pointer) {
  cudaFree(pointer);
}

constexpr test::TestMemory kHost{Memory::kHost, std::malloc, std::free, {on_host, on_host}};
constexpr test::TestMemory kDevice{Memory::kDevice, device_allocate, device_release, {to_host, to_device}};
constexpr const test::TestMemory* kBothMemories[] = {&kHost, &kDevice};

class NcclOnGpu : public testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    if (const auto status = cudaGetDeviceCount(&count); status != cudaSuccess)
      GTEST_SKIP() << "no GPU: " << cudaGetErrorString(status);
    if (count == 0) GTEST_SKIP() << "no GPU";
    device_ = test::session().place().local_rank % count;
    ASSERT_EQ(cudaSetDevice(device_), cudaSuccess);
  }

  Communicator make(std::size_t staging_bytes, double timeout_seconds = 60) const {
    NcclConfig config;
    config.device = device_;
    config.staging_bytes = staging_bytes;
    config.timeout_seconds = timeout_seconds;
    return Communicator(make_nccl_backend(test::session().world(), config));
  }

 private:
  int device_ = 0;
};

class NcclAbort : public NcclOnGpu {};

template <class... Types, class Check>
void for_each_type(testing::Types<Types...>, const Check& check) {
  (check(Types{}), ...);
}

TEST_F(NcclOnGpu, EveryCollectiveTypeAndMemory) {
  for (const std::size_t staging : {std::size_t{1} << 20, std::size_t{1000}}) {
    Communicator nccl = make(staging);
    for (const test::TestMemory* memory : kBothMemories) {
      SCOPED_TRACE(std::to_string(staging) + (memory == &kHost ? " host" : " device"));
      for_each_type(test::CollectiveTypes(), [&]<class T>(T) {
        SCOPED_TRACE(typeid(T).name());
        test::check_broadcast<T>(nccl, *memory);
        test::check_all_reduce<T>(nccl, *memory);
        test::check_all_gather<T>(nccl, *memory);
        test::check_gatherv<T>(nccl, *memory);
        test::check_scatterv<T>(nccl, *memory);
        test::check_all_to_allv<T>(nccl, *memory);
        test::check_ring<T>(nccl, *memory);
      });
    }
  }
}

// A sum of one 1 and a half unit in the last place a further rank: right only if it is not rounded on the
// way.
TEST_F(NcclOnGpu, SixteenBitSums) {
  Communicator nccl = make(1000);
  for (const Accumulate accumulate : {Accumulate::kFloat32, Accumulate::kNative}) {
    for (const bool bf16 : {true, false}) {
      for (const test::TestMemory* memory : kBothMemories) {
        const auto narrow = bf16 ? core::float_to_bfloat16 : core::float_to_half;
        const float unit = bf16 ? 0x1p-7f : 0x1p-10f;
        const float step = accumulate == Accumulate::kFloat32 ? unit / 2 : unit;
        test::Data<std::uint8_t> data(std::vector<std::uint8_t>(6000), *memory);
        std::vector<std::uint16_t> values(3000, narrow(nccl.is_root() ? 1.0f : step));
        const Buffer raw = data;
        memory->copies.to_device(raw.data, values.data(), raw.bytes());
        nccl.all_reduce(Buffer(raw.data, values.size(), bf16 ? DType::kBF16 : DType::kF16, memory->kind),
                        Op::kSum, accumulate);
        memory->copies.to_host(values.data(), raw.data, raw.bytes());
        const auto sum = narrow(1.0f + static_cast<float>(nccl.size() - 1) * step);
        EXPECT_EQ(values, std::vector<std::uint16_t>(3000, sum))
            << (bf16 ? "bf16" : "fp16") << (accumulate == Accumulate::kNative ? " native" : " widened")
            << (memory == &kHost ? " host" : " device");
      }
    }
  }
}

TEST_F(NcclOnGpu, MoreThanTheStagingBufferHolds) {
  Communicator nccl = make(NcclConfig().staging_bytes);
  const std::size_t count = NcclConfig().staging_bytes / sizeof(float) * 3 / 2;
  for (const test::TestMemory* memory : kBothMemories) {
    test::Data<float> data(std::vector<float>(count, 2), *memory);
    nccl.all_reduce(data);
    EXPECT_EQ(data.values(), std::vector<float>(count, 2.0f * static_cast<float>(nccl.size())));
  }
}

TEST_F(NcclOnGpu, BarrierSplitAndDuplicate) {
  Communicator nccl = make(1000);
  EXPECT_EQ(nccl.backend_name(), "nccl");
  nccl.barrier();
  Communicator copy = nccl.duplicate();
  EXPECT_EQ(copy.all_reduce_value<std::int32_t>(1, Op::kSum), nccl.size());
  Communicator only_root = nccl.split(nccl.is_root() ? 0 : -1, 0);
  EXPECT_EQ(static_cast<bool>(only_root), nccl.is_root());
  if (only_root) only_root.barrier();
  EXPECT_THROW(nccl.probe(0), core::CommError);
}

/// A communicator whose staging buffer and kernels are there already: while a kernel runs for ever, nothing
/// more can be loaded.
Communicator warm(Communicator nccl) {
  nccl.barrier();
  cudaDeviceSynchronize();
  return nccl;
}

/// Lets a kernel go when the test has waited in vain, so that it fails and does not hang.
class Guard {
 public:
  Guard(test::EndlessKernel& kernel, double seconds)
      : thread_([this, &kernel, seconds] {
          std::unique_lock lock(mutex_);
          in_vain_ = !done_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return over_; });
          if (in_vain_) kernel.release();
        }) {}
  ~Guard() { finish(); }

  /// True when the guard had to let the kernel go.
  bool finish() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    done_.notify_one();
    if (thread_.joinable()) thread_.join();
    return in_vain_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  bool over_ = false, in_vain_ = false;
  std::thread thread_;
};

void expect_barrier_fails(Communicator& nccl, const std::string& text) {
  try {
    nccl.barrier();
    ADD_FAILURE() << "no error";
  } catch (const core::CommError& error) {
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  }
  EXPECT_THROW(nccl.barrier(), core::CommError) << "an aborted communicator is of no use";
}

TEST_F(NcclAbort, AKernelThatNeverEndsIsLeftAtTheDeadline) {
  Communicator nccl = warm(make(1000, kDeadline));
  test::EndlessKernel kernel;
  Guard guard(kernel, kDeadline + kPatience);
  const double start = core::monotonic_seconds();
  expect_barrier_fails(nccl, "not done after");
  EXPECT_GE(core::monotonic_seconds() - start, kDeadline);
  EXPECT_FALSE(guard.finish()) << "the abort came back only after the kernel had ended";
}

TEST_F(NcclAbort, AnotherThreadAbortsAKernelThatNeverEnds) {
  Communicator nccl = warm(make(1000));
  test::EndlessKernel kernel;
  Guard guard(kernel, kPatience);
  std::thread other([&nccl] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    nccl.abort("the watchdog says so");
  });
  expect_barrier_fails(nccl, "abort was asked for");
  other.join();
  EXPECT_FALSE(guard.finish()) << "the abort came back only after the kernel had ended";
}

// Here it is NCCL's own kernel that never ends.
TEST_F(NcclAbort, APeerThatNeverCalls) {
  Communicator& world = test::session().world();
  if (world.size() == 1) GTEST_SKIP() << "needs two ranks";
  {
    Communicator nccl = warm(make(1000, kPeerTimeout));
    test::check_ring<std::int32_t>(nccl, kHost);  // the ranks are connected, so that a kernel does start
    if (nccl.is_root()) expect_barrier_fails(nccl, "not done after");
    world.barrier();  // the others do nothing until then
  }
  world.barrier();
}

}  // namespace
}  // namespace muster::comm
