// SPDX-License-Identifier: Apache-2.0
#include "training/buffers.h"

#include <limits>

namespace muster::training {
namespace {

constexpr std::int64_t kChunk = 16384;

comm::DType comm_type(c10::ScalarType type) {
  switch (type) {
    case c10::ScalarType::Float:
      return comm::DType::kF32;
    case c10::ScalarType::Half:
      return comm::DType::kF16;
    case c10::ScalarType::BFloat16:
      return comm::DType::kBF16;
    default:
      throw core::InternalError("gradients and weights travel as fp32, fp16 or bf16");
  }
}

}  // namespace

comm::Buffer buffer_of(const at::Tensor& tensor) {
  if (!tensor.defined()) return {};
  core::internal_check(tensor.is_contiguous(), "only a contiguous tensor is a buffer");
  return {tensor.data_ptr(), static_cast<std::size_t>(tensor.numel()), comm_type(tensor.scalar_type()),
          tensor.device().is_cpu() ? comm::Memory::kHost : comm::Memory::kDevice};
}

std::int64_t chunk_elements(const c10::Device& device) {
  return device.is_cpu() ? kChunk : std::numeric_limits<std::int64_t>::max();
}

}  // namespace muster::training
