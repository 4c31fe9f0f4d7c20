// SPDX-License-Identifier: Apache-2.0
// Our own CPU kernels, a folder per instruction set, chosen once at run time. Plain pointers and no library
// header: the files of an instruction set are compiled for processors that the rest of the program does not
// ask for, so they must not leave inline functions of others behind. Every row is computed alone and in one
// order: its bytes depend neither on the row count nor on its place nor on its companions.
#pragma once
#include <cstdint>

namespace muster::nn::kernels {

using Bf16 = std::uint16_t;  ///< the upper half of an fp32's bits

/// A weight is cut into panels of this many output columns; 8 rows x 3 vectors fill the 32 vector registers.
inline constexpr std::int64_t kPanelColumns = 48;
inline constexpr std::int64_t kPanelColumnsFp32 = 16;
/// Of a gated product: a vector of hidden columns and one of their gates.
inline constexpr std::int64_t kGatedColumns = 32;
/// Inputs that share a scale in an int8 product. Some features are far larger than the others: with one scale
/// a row the smallest cosine to fp32 is 0.996 on a real model, with groups of 128 it is 0.9994, for a tenth
/// of the speed.
inline constexpr std::int64_t kInt8Group = 128;
constexpr std::int64_t int8_groups(std::int64_t in) {
  return (in + kInt8Group - 1) / kInt8Group;
}
/// Queries that attention computes together.
inline constexpr std::int64_t kQueryBlock = 8;

/// 4th-order polynomials for 0.5 * erf(x / sqrt 2) on 16 equal pieces of [0, kGeluEnd): error below 2e-7.
inline constexpr int kGeluPieces = 16;
inline constexpr float kGeluEnd = 5.5f;
struct GeluTable {
  alignas(64) float coefficients[5][kGeluPieces];  ///< of the distance to the piece's middle, constant first
};
const GeluTable& gelu_table();

enum class LinearActivation : std::uint8_t {
  kIdentity,
  kRelu,
  kGelu,
  kGeluTanh,
  kQuickGelu,
  kSilu,
  kTanh,
  kSigmoid
};

/// What happens to a product on its way to memory: + bias, + shift, activation, + residual, one rounding to
/// bf16.
struct Epilogue {
  const float* bias = nullptr;  ///< [columns up to whole vectors]
  const GeluTable* gelu = nullptr;
  const Bf16* residual = nullptr;  ///< rows as `out`, or null
  std::int64_t residual_stride = 0;
  LinearActivation activation = LinearActivation::kIdentity;
  const Bf16* shift = nullptr;  ///< a row for every `shift_rows` of the product, or null
  std::int64_t shift_stride = 0, shift_rows = 1;
};

/// [rows, width] in memory, `stride` elements from row to row.
struct InputRows {
  const Bf16* data = nullptr;
  std::int64_t stride = 0;
  std::int64_t rows = 0;
};
struct OutputRows {
  Bf16* data = nullptr;
  std::int64_t stride = 0;
};

/// Columns of pairs (bf16) or quads (int8) along the input, panel by panel.
struct PanelsBf16 {
  const Bf16* data = nullptr;  ///< [panels][in / 2][columns of the panel up to whole vectors][2]
  std::int64_t in = 0;         ///< even
  std::int64_t out = 0;
};
struct PanelsInt8 {
  const std::int8_t* data = nullptr;  ///< [panels][in / 4][columns of the panel up to whole vectors][4]
  const float* scale = nullptr;       ///< [groups][columns up to whole vectors]: weight = scale * data
  const float* column_sum = nullptr;  ///< likewise: sum of the group's weights, for the inputs' zero point
  std::int64_t in = 0;                ///< a multiple of 4
  std::int64_t out = 0;
};

/// A convolution's weights are panels whose inputs are those of every tap (row of the kernel, then column)
/// one after another.
struct ConvolutionBf16 {
  PanelsBf16 weights;           ///< in: kernel * kernel * channels, channels even
  const Bf16* x = nullptr;      ///< [samples, height, width, channels]
  const Bf16* zeros = nullptr;  ///< [channels]: what lies around the picture
  std::int64_t samples = 0, height = 0, width = 0, channels = 0;
  std::int64_t kernel = 3, stride = 1, padding = 1;
  std::int64_t out_height = 0, out_width = 0;
};
/// fp32 sums that a convolution keeps between taps, in floats.
inline constexpr std::int64_t kConvolutionRows = 256;
inline constexpr std::int64_t kConvolutionScratch = kConvolutionRows * kPanelColumns;

/// A picture's group norm with an activation behind it.
struct GroupNormShape {
  std::int64_t pixels = 0, channels = 0, groups = 1;
  float epsilon = 0;
  const float* gamma = nullptr;
  const float* beta = nullptr;
  bool silu = false;
};

/// Rows as 8-bit steps above the least value of each group of kInt8Group inputs: x = low + scale * data.
struct QuantizedRows {
  std::uint8_t* data = nullptr;  ///< [rows, in]
  float* scale = nullptr;        ///< [rows, groups]
  float* low = nullptr;          ///< [rows, groups]
};

/// One sequence and head: rows of `width` columns each, even.
struct HeadInputs {
  const Bf16* query = nullptr;
  const Bf16* key = nullptr;
  const Bf16* value = nullptr;
  std::int64_t stride = 0;      ///< of queries
  std::int64_t key_stride = 0;  ///< of keys and values
  std::int64_t length = 0;      ///< queries
  std::int64_t keys = 0;
  std::int64_t width = 0;
  float scale = 1.0f;
  /// bias of (query i, key j) is distance_bias[j - i], or null
  const float* distance_bias = nullptr;
};

struct NormWeights {
  const float* gamma = nullptr;
  const float* beta = nullptr;
  float epsilon = 0;
};

struct CpuKernels {
  const char* name;
  void (*linear_bf16)(const PanelsBf16&, const InputRows&, const Epilogue&, const OutputRows&);
  void (*linear_int8)(const PanelsInt8&, const QuantizedRows&, std::int64_t rows, const Epilogue&,
                      const OutputRows&);
  void (*quantize_rows)(const InputRows&, std::int64_t width, const QuantizedRows&);
  /// y = (x - mean) / sqrt(variance + epsilon) * gamma + beta; `out` may be the input.
  void (*layer_norm)(const InputRows&, std::int64_t width, const NormWeights&, const OutputRows&);
  /// softmax(scale * Q K^T + bias) V; `scratch` as attention_scratch_bytes says, 64-byte aligned.
  void (*attend_head)(const HeadInputs&, const OutputRows&, void* scratch);
  /// Rows of `out` are pixels; `scratch` [kConvolutionScratch], 64-byte aligned.
  void (*convolve_bf16)(const ConvolutionBf16&, const Epilogue&, const OutputRows&, float* scratch);
  /// y = hidden * gelu(gate). Panels of kGatedColumns: a vector of hidden columns beside its gates'; `bias`
  /// likewise.
  void (*linear_gated_bf16)(const PanelsBf16&, const InputRows&, const Epilogue&, const OutputRows&);
  /// One sample, [pixels, channels] in memory; `scratch` 2 * channels doubles.
  void (*group_norm_bf16)(const GroupNormShape&, const Bf16* x, Bf16* out, double* scratch);
  void (*group_norm_fp32)(const GroupNormShape&, const float* x, float* out, double* scratch);
};

/// y = x W^T + bias (+ residual), rows contiguous.
struct ProductFp32 {
  const float* panels = nullptr;    ///< [panels][in][16], columns behind the last zero
  const float* bias = nullptr;      ///< [columns up to a whole panel]
  const float* x = nullptr;         ///< [rows, in]
  const float* residual = nullptr;  ///< [rows, out] or null
  float* y = nullptr;               ///< [rows, out]
  std::int64_t rows = 0, in = 0, out = 0;
};
using LinearFp32 = void (*)(const ProductFp32&);

std::int64_t attention_scratch_bytes(std::int64_t keys, std::int64_t width);

/// The kernels of this processor, or null: then LibTorch's are used. ATEN_CPU_CAPABILITY=avx2 or =default
/// turns them off as it does LibTorch's own.
const CpuKernels* cpu_kernels();

/// The fp32 product where LibTorch's is not exact enough for us: with AVX2 but without AVX-512. Null
/// elsewhere.
LinearFp32 linear_fp32();

extern const CpuKernels kAvx512Kernels;
void linear_fp32_avx2(const ProductFp32&);

}  // namespace muster::nn::kernels
