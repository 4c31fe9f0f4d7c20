// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>

#include "muster/comm/nccl.h"

namespace muster::comm {

inline constexpr const char* kCudaLibrary = "libmuster_cuda.so";
inline constexpr const char* kNcclUniqueIdSymbol = "muster_nccl_unique_id";
inline constexpr const char* kNcclCreateSymbol = "muster_nccl_create";
inline constexpr const char* kNcclVersionSymbol = "muster_nccl_version";

using NcclId = std::array<std::byte, 128>;  // as large as ncclUniqueId

struct NcclSetup {
  NcclId id;
  int rank;
  int size;
  NcclConfig config;
};

// What libmuster_cuda.so exports for this room, as C symbols. Both throw CommError.
using NcclUniqueIdFunction = void(NcclId* id);
using NcclCreateFunction = Backend*(const NcclSetup* setup);
using NcclVersionFunction = int();  // 22809 for 2.28.9

}  // namespace muster::comm
