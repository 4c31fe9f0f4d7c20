// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "nn/kernels/training_kernels.h"

namespace muster::nn::kernels {

template <typename Element>
void pack_transposed_avx512(const Matrix<const Element>& from, const Panels<Element>& to);
template <typename Element>
void pack_avx512(const Matrix<const Element>& from, const Panels<Element>& to, std::int64_t first);
template <typename Element>
void transpose_avx512(const Matrix<const Element>& from, Element* to, std::int64_t stride);
template <typename Element>
void multiply_avx512(const PanelProduct<Element>& product);

template <typename Element>
void head_forward_avx512(const HeadTraining<Element>&, const HeadForward<Element>&, void* scratch);
template <typename Element>
void head_backward_avx512(const HeadTraining<Element>&, const HeadBackward<Element>&, void* scratch);

}  // namespace muster::nn::kernels
