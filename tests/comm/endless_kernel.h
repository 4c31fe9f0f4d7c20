// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>

namespace muster::test {

/// A kernel on the current GPU's default stream that runs until somebody releases it: what a collective waits
/// for when a device hangs. Everything queued behind it waits with it.
class EndlessKernel {
 public:
  EndlessKernel();  ///< throws std::runtime_error when the driver refuses it
  ~EndlessKernel();
  EndlessKernel(const EndlessKernel&) = delete;
  EndlessKernel& operator=(const EndlessKernel&) = delete;

  void release();  ///< it ends soon after; from any thread

 private:
  struct FreePinned {
    void operator()(std::uint32_t* flag) const;
  };
  std::unique_ptr<std::uint32_t, FreePinned> flag_;  // pinned host memory, which the kernel reads
};

}  // namespace muster::test
