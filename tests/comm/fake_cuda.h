// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <thread>

namespace muster::test {

/// Switches of the stand-in for CUDA and NCCL (fake_cuda.cpp).
struct FakeCuda {
  std::atomic<bool> device_hangs{false};        ///< streams never become ready
  std::atomic<bool> communicator_fails{false};  ///< the asynchronous state is an error
  std::atomic<int> aborts{0};
  std::thread::id aborted_by;
};
FakeCuda& fake_cuda();

}  // namespace muster::test
