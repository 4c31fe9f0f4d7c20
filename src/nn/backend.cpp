// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/backend.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <torch/headeronly/version.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <new>

#include "muster/core/error.h"

namespace muster::nn {
namespace {

// Beside the library that holds at::empty, whatever the loader's path says.
std::string cuda_library_path() {
  Dl_info info{};
  const auto anchor = reinterpret_cast<const void*>(&at::_ops::relu::call);
  if (dladdr(anchor, &info) == 0 || info.dli_fname == nullptr) return "libtorch_cuda.so";
  const std::string path = info.dli_fname;
  const auto slash = path.rfind('/');
  return (slash == std::string::npos ? "" : path.substr(0, slash + 1)) + "libtorch_cuda.so";
}

void open_cuda_half() {
  const std::string path = cuda_library_path();
  // Kept open for good: its operators stay registered. Global, as its own parts look each other up by name.
  static void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (handle) return;
  const char* why = dlerror();
  throw core::ResourceError(
      fmt::format("LibTorch's CUDA half cannot be opened: {}; install the CUDA wheels (scripts/bootstrap.sh "
                  "--cuda) or run with "
                  "run.device=cpu",
                  why ? why : path));
}

}  // namespace

c10::Device torch_device(const device::Device& device) {
  if (device.kind == device::Kind::kCpu) return c10::DeviceType::CPU;
  open_cuda_half();
  return {c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device.index)};
}

void use_one_thread() {
  if (at::get_num_threads() != 1) at::set_num_threads(1);
}

void keep_freed_memory() {
#if defined(__GLIBC__)
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

bool is_out_of_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
      dynamic_cast<const core::ResourceError*>(&error) != nullptr ||
      dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr)
    return true;
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  const std::string_view what = of_torch != nullptr ? of_torch->what_without_backtrace() : error.what();
  return what.find("can't allocate memory") != std::string_view::npos ||
         what.find("out of memory") != std::string_view::npos;
}

void rethrow(const c10::Error& error, const std::string& where) {
  const std::string message = fmt::format("{}: {}", where, error.what_without_backtrace());
  if (is_out_of_memory(error)) throw core::ResourceError(message);
  throw core::InternalError(message);
}

std::string torch_version() {
  return TORCH_VERSION;
}

}  // namespace muster::nn
