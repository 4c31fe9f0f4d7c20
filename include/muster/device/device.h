// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace muster::device {

enum class Kind { kCpu, kCuda };

/// The device a rank works on, as a value.
struct Device {
  Kind kind = Kind::kCpu;
  int index = 0;             ///< CUDA ordinal; 0 for the CPU
  std::string name() const;  ///< "cpu", "cuda:2"
  bool operator==(const Device&) const = default;
};

struct DeviceConfig {
  std::string device = "auto";  ///< auto|cpu|cuda
  std::vector<int> gpu_ids;     ///< limits the visible GPUs; empty: all
};

/// Number of GPUs this process can use; 0 without libmuster_cuda.so or a driver (never an error).
int gpu_count();
/// The GPU of a rank: local_rank modulo the allowed GPUs. ConfigError when cuda is asked for and there is
/// none (says whether the library, the driver or the GPU is missing).
Device choose_device(const DeviceConfig& config, int local_rank);

struct MemoryInfo {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;
};
MemoryInfo memory_info(const Device& device);  ///< host: the cgroup limit where there is one
/// Peak resident set of this process in bytes (VmHWM).
std::uint64_t peak_host_bytes();
std::string cpu_model();
/// True when the CPU multiplies bf16 in hardware (AVX512-BF16 or AMX-BF16) and ATEN_CPU_CAPABILITY,
/// LibTorch's limit for such instructions, allows it.
bool cpu_has_bf16();
bool cpu_has_amx();  ///< AMX-BF16, likewise

/// Binds the calling thread to these cores (sched_setaffinity); false when the kernel refuses.
bool pin_thread(std::span<const int> cores);

/// Device services behind libmuster_cuda.so; null when it cannot be opened. Functions that return int return
/// 0 on success (device_count: the number, negative on failure); last_error then has the calling thread's
/// reason.
struct CudaServices {
  int (*device_count)();
  int (*set_device)(int index);
  int (*memory_info)(int index, std::uint64_t* free_bytes, std::uint64_t* total_bytes);
  void* (*pinned_allocate)(std::uint64_t bytes);
  void (*pinned_free)(void* pointer);
  int (*copy_to_host)(void* host, const void* device, std::uint64_t bytes);    ///< returns when done
  int (*copy_to_device)(void* device, const void* host, std::uint64_t bytes);  ///< returns when done
  const char* (*last_error)();
  const char* (*versions)();  ///< "CUDA 13.0"
};
const CudaServices* cuda_services();

}  // namespace muster::device
