// SPDX-License-Identifier: Apache-2.0
// Which parts of a model our own kernels compute, for a device and type.
#pragma once
#include "muster/nn/module.h"
#include "nn/kernels/cpu_kernels.h"

namespace muster::nn::kernels {

/// Attention and norms in bf16.
bool has_own_attention(c10::Device device, c10::ScalarType dtype);
/// Matrix products with weights. In bf16 not on AMX, whose tiles oneDNN has and we have not.
bool has_own_linear(const ComputeTarget& target);
/// Group norms of pictures.
bool has_own_group_norm(const ComputeTarget& target);
/// Matrix products in fp32 without AVX-512; their activations are LibTorch's, on whole tiles.
bool has_own_fp32_linear(const ComputeTarget& target);

}  // namespace muster::nn::kernels
