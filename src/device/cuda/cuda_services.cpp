// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "muster/device/device.h"

namespace muster::device {
namespace {

int device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorNoDevice) return 0;
  return status == cudaSuccess ? count : -1;
}

int set_device(int index) {
  return cudaSetDevice(index);
}

int memory_info(int index, std::uint64_t* free_bytes, std::uint64_t* total_bytes) {
  int before = 0;
  if (const auto status = cudaGetDevice(&before); status != cudaSuccess) return status;
  if (const auto status = cudaSetDevice(index); status != cudaSuccess) return status;
  std::size_t free = 0, total = 0;
  const cudaError_t status = cudaMemGetInfo(&free, &total);
  *free_bytes = free;
  *total_bytes = total;
  const cudaError_t restored = cudaSetDevice(before);
  return status != cudaSuccess ? status : restored;
}

void* pinned_allocate(std::uint64_t bytes) {
  void* pointer = nullptr;
  return cudaMallocHost(&pointer, bytes) == cudaSuccess ? pointer : nullptr;
}

void pinned_free(void* pointer) {
  cudaFreeHost(pointer);
}

int copy_to_host(void* host, const void* device, std::uint64_t bytes) {
  return cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost);
}

int copy_to_device(void* device, const void* host, std::uint64_t bytes) {
  return cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice);
}

const char* last_error() {
  return cudaGetErrorString(cudaGetLastError());
}

const char* versions() {
  static const std::string* const text = [] {
    int cuda = 0;
    cudaRuntimeGetVersion(&cuda);
    return new std::string(fmt::format("CUDA {}.{}", cuda / 1000, cuda % 1000 / 10));
  }();
  return text->c_str();
}

constexpr CudaServices kServices{device_count, set_device,     memory_info, pinned_allocate, pinned_free,
                                 copy_to_host, copy_to_device, last_error,  versions};

}  // namespace
}  // namespace muster::device

extern "C" __attribute__((visibility("default"))) const muster::device::CudaServices* muster_cuda_services() {
  return &muster::device::kServices;
}
