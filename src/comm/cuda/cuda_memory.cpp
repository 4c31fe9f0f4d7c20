// SPDX-License-Identifier: Apache-2.0
#include "comm/cuda/cuda_memory.h"

#include <fmt/format.h>

#include "muster/core/error.h"

namespace muster::comm {

void check_cuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  const std::string text = fmt::format("{} failed: {}", call, cudaGetErrorString(status));
  if (status == cudaErrorMemoryAllocation) throw core::ResourceError(text);
  throw core::CommError(text);
}

UniquePinned allocate_pinned(std::size_t bytes) {
  void* pointer = nullptr;
  check_cuda(cudaMallocHost(&pointer, bytes), "cudaMallocHost");
  return UniquePinned(pointer);
}

UniqueDeviceMemory allocate_device(std::size_t bytes) {
  void* pointer = nullptr;
  check_cuda(cudaMalloc(&pointer, bytes), "cudaMalloc");
  return UniqueDeviceMemory(pointer);
}

UniqueStream make_stream() {
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return UniqueStream(stream);
}

UniqueEvent make_event() {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  return UniqueEvent(event);
}

}  // namespace muster::comm
