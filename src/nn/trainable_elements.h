// SPDX-License-Identifier: Apache-2.0
// Tensors as the training kernels see them.
#pragma once
#include <ATen/core/Tensor.h>

#include <utility>

#include "nn/kernels/training_kernels.h"

namespace muster::nn::trainable {

/// Passes of our own, on the CPU.
inline bool has_own_passes(c10::ScalarType type) {
  return kernels::training_kernels() && (type == c10::ScalarType::BFloat16 || type == c10::ScalarType::Float);
}
inline bool has_own_passes(const at::Tensor& x) {
  return x.device().is_cpu() && has_own_passes(x.scalar_type());
}

/// Columns of a head in memory for our own attention.
inline std::int64_t head_columns(std::int64_t width) {
  constexpr std::int64_t kStep = 32;
  return (width + kStep - 1) / kStep * kStep;
}

template <typename Element>
struct ElementType {};

template <typename Element>
const kernels::TypedTrainingKernels<Element>& typed_kernels();
template <>
inline const kernels::TypedTrainingKernels<kernels::Bf16>& typed_kernels() {
  return kernels::training_kernels()->bf16;
}
template <>
inline const kernels::TypedTrainingKernels<float>& typed_kernels() {
  return kernels::training_kernels()->fp32;
}

/// Calls `work(ElementType<...>())` for a tensor that has_own_passes.
template <typename Work>
auto with_element(const at::Tensor& x, const Work& work) {
  if (x.scalar_type() == c10::ScalarType::BFloat16) return work(ElementType<kernels::Bf16>());
  return work(ElementType<float>());
}

template <typename Element>
const Element* elements(const at::Tensor& x) {
  return static_cast<const Element*>(x.const_data_ptr());
}
template <typename Element>
Element* mutable_elements(at::Tensor& x) {
  return static_cast<Element*>(x.mutable_data_ptr());
}

/// `x` with rows contiguous in themselves.
inline at::Tensor with_rows(const at::Tensor& x) {
  return x.size(1) <= 1 || x.stride(1) != 1 ? x.contiguous() : x;
}

template <typename Element>
kernels::Matrix<const Element> matrix(const at::Tensor& x) {
  return {elements<Element>(x), x.stride(0), x.size(0), x.size(1)};
}

/// fp32 values for kernels that read whole vectors; null for an undefined tensor.
class PaddedFloats {
 public:
  explicit PaddedFloats(const at::Tensor& values);
  const float* data() const { return values_.defined() ? values_.const_data_ptr<float>() : nullptr; }

 private:
  at::Tensor values_;
};

}  // namespace muster::nn::trainable
