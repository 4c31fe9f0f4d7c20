// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>

#include "muster/core/unique_handle.h"

namespace muster::comm {

/// Throws CommError with CUDA's text; ResourceError when memory ran out.
void check_cuda(cudaError_t status, const char* call);

struct PinnedTraits {
  using Handle = void*;
  static void* invalid() { return nullptr; }
  static int close(void* pointer) noexcept { return cudaFreeHost(pointer); }
};
using UniquePinned = core::UniqueHandle<PinnedTraits>;

struct DeviceMemoryTraits {
  using Handle = void*;
  static void* invalid() { return nullptr; }
  static int close(void* pointer) noexcept { return cudaFree(pointer); }
};
using UniqueDeviceMemory = core::UniqueHandle<DeviceMemoryTraits>;

struct StreamTraits {
  using Handle = cudaStream_t;
  static cudaStream_t invalid() { return nullptr; }
  static int close(cudaStream_t stream) noexcept { return cudaStreamDestroy(stream); }
};
using UniqueStream = core::UniqueHandle<StreamTraits>;

struct EventTraits {
  using Handle = cudaEvent_t;
  static cudaEvent_t invalid() { return nullptr; }
  static int close(cudaEvent_t event) noexcept { return cudaEventDestroy(event); }
};
using UniqueEvent = core::UniqueHandle<EventTraits>;

UniquePinned allocate_pinned(std::size_t bytes);
UniqueDeviceMemory allocate_device(std::size_t bytes);
UniqueStream make_stream();
UniqueEvent make_event();

}  // namespace muster::comm
