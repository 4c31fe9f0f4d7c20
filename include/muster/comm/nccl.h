// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <memory>
#include <string>

#include "muster/comm/communicator.h"

namespace muster::comm {

struct NcclConfig {
  int device = 0;                 ///< CUDA ordinal of this rank
  double timeout_seconds = 3600;  ///< a call that takes longer is aborted and throws
  std::size_t staging_bytes = std::size_t{64}
                              << 20;  ///< pinned and device memory for host buffers; the same on all ranks
};

/// NCCL over the ranks of `bootstrap`, one GPU each. Collective over `bootstrap`, which is only used here.
/// CommError when libmuster_cuda.so or NCCL is missing, when two ranks name one GPU, or when a rank does not
/// come in time.
std::unique_ptr<Backend> make_nccl_backend(Communicator& bootstrap, const NcclConfig& config);

/// "NCCL 2.28.9"; "" when libmuster_cuda.so cannot be opened.
std::string nccl_version();

}  // namespace muster::comm
