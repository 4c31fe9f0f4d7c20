// SPDX-License-Identifier: Apache-2.0
// The kernel is PTX text that the driver compiles, so that no device compiler is needed.
#include "endless_kernel.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <atomic>
#include <stdexcept>

#include "muster/core/shared_library.h"

namespace muster::test {
namespace {

constexpr const char* kPtx = R"(
.version 7.0
.target sm_75
.address_size 64
.visible .entry wait_for_flag(.param .u64 address)
{
  .reg .u64 %flag;
  .reg .u32 %value;
  .reg .pred %waiting;
  ld.param.u64 %flag, [address];
again:
  ld.volatile.global.u32 %value, [%flag];
  setp.eq.u32 %waiting, %value, 0;
  @%waiting bra again;
  ret;
}
)";

// As cuda.h declares them, handles being pointers.
using ModuleLoadData = int(void** module, const void* image);
using ModuleGetFunction = int(void** function, void* module, const char* name);
using LaunchKernel = int(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                         unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream,
                         void** parameters, void** extra);

template <class Function, class... Arguments>
void call(const core::SharedLibrary& driver, const char* name, Arguments... arguments) {
  Function* const function = driver.function<Function>(name);
  if (function == nullptr) throw std::runtime_error(fmt::format("the CUDA driver has no {}", name));
  if (const int status = function(arguments...); status != 0)
    throw std::runtime_error(fmt::format("{} failed with error {}", name, status));
}

}  // namespace

void EndlessKernel::FreePinned::operator()(std::uint32_t* flag) const {
  cudaFreeHost(flag);
}

EndlessKernel::EndlessKernel() {
  std::string why;
  const auto driver = core::SharedLibrary::open("libcuda.so.1", &why);
  if (!driver) throw std::runtime_error(why);
  void* flag = nullptr;
  if (const auto status = cudaMallocHost(&flag, sizeof(std::uint32_t)); status != cudaSuccess)
    throw std::runtime_error(fmt::format("cudaMallocHost: {}", cudaGetErrorString(status)));
  flag_.reset(static_cast<std::uint32_t*>(flag));
  *flag_ = 0;
  void *module = nullptr, *function = nullptr;
  call<ModuleLoadData>(*driver, "cuModuleLoadData", &module, static_cast<const void*>(kPtx));
  call<ModuleGetFunction>(*driver, "cuModuleGetFunction", &function, module, "wait_for_flag");
  void* parameters[] = {&flag};
  call<LaunchKernel>(*driver, "cuLaunchKernel", function, 1u, 1u, 1u, 1u, 1u, 1u, 0u,
                     static_cast<void*>(cudaStreamLegacy), static_cast<void**>(parameters),
                     static_cast<void**>(nullptr));
}

EndlessKernel::~EndlessKernel() {
  release();
  cudaDeviceSynchronize();
}

void EndlessKernel::release() {
  std::atomic_ref(*flag_).store(1);
}

}  // namespace muster::test
