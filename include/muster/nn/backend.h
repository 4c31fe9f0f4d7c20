// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <exception>
#include <string>

#include "muster/device/device.h"

namespace muster::nn {

/// The tensor library's name of a device. For a GPU, LibTorch's CUDA half is opened first (it is not linked,
/// because it costs a CPU rank 0.5 GB and half a second); ResourceError says what is missing.
c10::Device torch_device(const device::Device& device);

/// Makes this thread compute on one thread, as canonical results need; cheap when it already does.
void use_one_thread();
/// Lets this process keep the memory that tensors give back: activations come and go by the megabyte, and
/// what goes back to the system is cleared by it each time. For phases whose every batch needs the same
/// again.
void keep_freed_memory();

/// Whether memory ran out: our own error, the standard library's, or LibTorch's, whose allocators may say so
/// in words only.
bool is_out_of_memory(const std::exception& error);

/// LibTorch's errors as ours: ResourceError when memory ran out, InternalError otherwise. `where` is what was
/// being done.
[[noreturn]] void rethrow(const c10::Error& error, const std::string& where);

std::string torch_version();

}  // namespace muster::nn
