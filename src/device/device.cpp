// SPDX-License-Identifier: Apache-2.0
#include "muster/device/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "device/cuda_symbol.h"
#include "device/device_choice.h"
#include "device/host_memory.h"
#include "muster/core/error.h"
#include "muster/core/shared_library.h"

namespace muster::device {
namespace {

struct OpenedServices {
  const CudaServices* services = nullptr;
  std::string why;  ///< why there are none
};

OpenedServices open_services() {
  OpenedServices opened;
  const auto library = core::SharedLibrary::open(kCudaLibrary, &opened.why);
  if (!library) return opened;
  const auto get = library->function<const CudaServices*()>(kCudaServicesSymbol);
  if (get != nullptr) opened.services = get();
  if (opened.services == nullptr) opened.why = fmt::format("{} is of another version", kCudaLibrary);
  return opened;
}

const OpenedServices& services() {
  static const auto* const opened = new OpenedServices(open_services());
  return *opened;
}

GpuState gpu_state() {
  if (services().services == nullptr)
    return {0, fmt::format("{} cannot be opened: {}", kCudaLibrary, services().why)};
  const int count = services().services->device_count();
  if (count > 0) return {count, ""};
  if (count == 0) return {0, "this machine has no GPU that CUDA can see (CUDA_VISIBLE_DEVICES?)"};
  return {
      0, fmt::format("the NVIDIA driver is missing or does not work: {}", services().services->last_error())};
}

}  // namespace

std::string Device::name() const {
  return kind == Kind::kCpu ? "cpu" : fmt::format("cuda:{}", index);
}

const CudaServices* cuda_services() {
  return services().services;
}

int gpu_count() {
  return gpu_state().count;
}

Device choose_device(const DeviceConfig& config, int local_rank) {
  if (config.device == "cpu") return {};
  return choose_device(config, local_rank, gpu_state());
}

Device choose_device(const DeviceConfig& config, int local_rank, const GpuState& gpus) {
  if (config.device == "cpu") return {};
  if (config.device != "auto" && config.device != "cuda") {
    throw core::ConfigError(fmt::format("unknown device '{}'; use auto, cpu or cuda", config.device));
  }
  if (gpus.count == 0) {
    if (config.device == "auto") return {};
    throw core::ConfigError(
        fmt::format("device 'cuda' was asked for, but {}; use device: cpu or auto", gpus.why_none));
  }
  std::vector<int> allowed = config.gpu_ids;
  if (allowed.empty()) {
    allowed.resize(static_cast<std::size_t>(gpus.count));
    std::iota(allowed.begin(), allowed.end(), 0);
  }
  for (const int id : allowed) {
    if (id < 0 || id >= gpus.count) {
      throw core::ConfigError(
          fmt::format("gpu_ids names GPU {}, but this machine has GPUs 0 to {}", id, gpus.count - 1));
    }
  }
  return {Kind::kCuda, allowed[static_cast<std::size_t>(local_rank) % allowed.size()]};
}

MemoryInfo memory_info(const Device& device) {
  if (device.kind == Kind::kCpu) return host_memory();
  MemoryInfo info;
  const auto* cuda = cuda_services();
  core::internal_check(cuda != nullptr, "a CUDA device exists only with the CUDA library");
  if (cuda->memory_info(device.index, &info.free_bytes, &info.total_bytes) != 0) {
    throw core::ResourceError(
        fmt::format("cannot read the memory of {}: {}", device.name(), cuda->last_error()));
  }
  return info;
}

}  // namespace muster::device
