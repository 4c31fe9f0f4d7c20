// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include "muster/comm/communicator.h"

namespace muster::training {

/// A contiguous tensor as the communicator sees it.
comm::Buffer buffer_of(const at::Tensor& tensor);

/// Elements that are worked on at once: on the CPU what stays in the cache, and what operators do on one
/// thread; elsewhere everything.
std::int64_t chunk_elements(const c10::Device& device);

}  // namespace muster::training
