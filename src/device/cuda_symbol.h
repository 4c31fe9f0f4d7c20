// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace muster::device {

/// What libmuster_cuda.so exports for this room: `const CudaServices* muster_cuda_services()`.
inline constexpr const char* kCudaLibrary = "libmuster_cuda.so";
inline constexpr const char* kCudaServicesSymbol = "muster_cuda_services";

}  // namespace muster::device
