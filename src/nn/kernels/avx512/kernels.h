// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "nn/kernels/cpu_kernels.h"

namespace muster::nn::kernels {

void linear_bf16_avx512(const PanelsBf16&, const InputRows&, const Epilogue&, const OutputRows&);
void linear_int8_avx512(const PanelsInt8&, const QuantizedRows&, std::int64_t rows, const Epilogue&,
                        const OutputRows&);
void quantize_rows_avx512(const InputRows&, std::int64_t width, const QuantizedRows&);
void layer_norm_avx512(const InputRows&, std::int64_t width, const NormWeights&, const OutputRows&);
void attend_head_avx512(const HeadInputs&, const OutputRows&, void* scratch);
void convolve_bf16_avx512(const ConvolutionBf16&, const Epilogue&, const OutputRows&, float* scratch);
void linear_gated_bf16_avx512(const PanelsBf16&, const InputRows&, const Epilogue&, const OutputRows&);
void group_norm_bf16_avx512(const GroupNormShape&, const Bf16* x, Bf16* out, double* scratch);
void group_norm_fp32_avx512(const GroupNormShape&, const float* x, float* out, double* scratch);

}  // namespace muster::nn::kernels
