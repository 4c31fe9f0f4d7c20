// SPDX-License-Identifier: Apache-2.0
// Kernels that only training needs, as cpu_kernels.h has those of all models: plain pointers, chosen at run
// time. Rows of a result are computed alone and in one order; sums over rows go from the first to the last.
#pragma once
#include <cstdint>

#include "nn/kernels/cpu_kernels.h"
#include "nn/kernels/keep_bits.h"

namespace muster::nn::kernels {

/// Neighbours along the depth of a product that lie together in panels: 32 bits.
template <typename Element>
inline constexpr std::int64_t kDepthGroup = std::int64_t{sizeof(std::uint32_t) / sizeof(Element)};

/// [rows, columns] in memory.
template <typename Element>
struct Matrix {
  Element* data = nullptr;
  std::int64_t stride = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

/// The right side [depth, columns] of a product: [panels of 48 columns][depth / group][columns of the panel
/// up to whole vectors][group]. Several matrices may be packed one below the other.
template <typename Element>
struct Panels {
  Element* data = nullptr;
  std::int64_t depth = 0;  ///< whole groups
  std::int64_t columns = 0;
};

template <typename Element>
constexpr std::int64_t panel_elements(std::int64_t depth, std::int64_t columns) {
  constexpr std::int64_t kGroup = kDepthGroup<Element>;
  return (depth + kGroup - 1) / kGroup * kGroup * ((columns + 15) / 16 * 16);
}

/// out = left [rows, depth] x panels (+ bias).
template <typename Element>
struct PanelProduct {
  Matrix<const Element> left;  ///< whole groups in a row
  Panels<const Element> right;
  const float* bias = nullptr;  ///< [columns up to whole vectors] or null
  Element* out = nullptr;
  std::int64_t out_stride = 0;
  Element* gelu = nullptr;  ///< the same through an exact GELU, strided as `out`, or null
  const GeluTable* table = nullptr;
};

/// normalized = (keep * x * scale + residual - mean) / deviation, out = normalized * gamma + beta.
template <typename Element>
struct AddNorm {
  std::int64_t rows = 0, width = 0;
  const Element* x = nullptr;
  const Element* residual = nullptr;   ///< or null
  const std::uint8_t* keep = nullptr;  ///< bits of all elements in order, or null
  float keep_scale = 1;
  const float* gamma = nullptr;
  const float* beta = nullptr;
  float epsilon = 0;
  Element* normalized = nullptr;
  float* inverse_deviation = nullptr;  ///< [rows]
  Element* out = nullptr;
  float* scratch = nullptr;  ///< [width]
};

template <typename Element>
struct AddNormBackward {
  std::int64_t rows = 0, width = 0;
  const Element* gradient = nullptr;
  const Element* normalized = nullptr;
  const float* inverse_deviation = nullptr;
  const std::uint8_t* keep = nullptr;
  float keep_scale = 1;
  const float* gamma = nullptr;
  Element* sum_gradient = nullptr;  ///< of the sum before the norm
  Element* x_gradient = nullptr;    ///< the same through the mask; null without one
  float* gamma_gradient = nullptr;  ///< [width], added to
  float* beta_gradient = nullptr;
};

/// out = gradient * GELU'(before).
template <typename Element>
struct GeluBackward {
  const Element* gradient = nullptr;
  const Element* before = nullptr;
  std::int64_t elements = 0;
  Element* out = nullptr;
  const GeluTable* table = nullptr;
};

/// One text and head of attention: `length` rows of `width` (a multiple of 32) columns, `stride` apart.
template <typename Element>
struct HeadTraining {
  const Element* query = nullptr;
  const Element* key = nullptr;
  const Element* value = nullptr;
  std::int64_t stride = 0;
  std::int64_t length = 0;
  std::int64_t width = 0;
  float scale = 1.0f;
  const float* distance_bias = nullptr;  ///< of (query i, key j): distance_bias[j - i], or null
  const std::uint8_t* keep =
      nullptr;  ///< bits of [length, length] probabilities from `first_bit` on, or null
  std::int64_t first_bit = 0;
  float keep_scale = 1;
};

template <typename Element>
struct HeadForward {
  Element* out = nullptr;
  std::int64_t stride = 0;
  float* log_sum = nullptr;  ///< [length]: log2 of the sum of 2^(scores log2 e), for backward
};

template <typename Element>
struct HeadBackward {
  const Element* gradient = nullptr;  ///< of the output
  std::int64_t gradient_stride = 0;
  const float* log_sum = nullptr;
  Element* query = nullptr;  ///< gradients, `stride` apart
  Element* key = nullptr;
  Element* value = nullptr;
  std::int64_t stride = 0;
  float* distance_bias = nullptr;  ///< as HeadTraining::distance_bias, added to, or null
};

template <typename Element>
struct TypedTrainingKernels {
  /// Packs `from` [columns, depth], all of it.
  void (*pack_transposed)(const Matrix<const Element>& from, const Panels<Element>& to);
  /// Packs `from` [some of the depth, columns] from `first` (whole groups) on; a group's missing rows are
  /// zero.
  void (*pack)(const Matrix<const Element>& from, const Panels<Element>& to, std::int64_t first);
  /// [rows, columns] -> [columns, rows up to whole groups], zero behind the last row.
  void (*transpose)(const Matrix<const Element>& from, Element* to, std::int64_t stride);
  void (*multiply)(const PanelProduct<Element>&);
  /// gradient * GELU'(before), `elements` of them.
  void (*gelu_backward)(const GeluBackward<Element>&);
  /// sums[column] += the sum over `rows` rows; their numbers in `chosen`, or null for the first ones.
  void (*add_rows)(const Matrix<const Element>& from, const std::int64_t* chosen, float* sums);
  /// x * scale where a bit is set, else 0.
  void (*drop)(const Element* x, const std::uint8_t* keep, float scale, std::int64_t elements, Element* out);
  void (*add_norm)(const AddNorm<Element>&);
  void (*add_norm_backward)(const AddNormBackward<Element>&);
  /// `scratch` as head_scratch_bytes says, 64-byte aligned.
  void (*head_forward)(const HeadTraining<Element>&, const HeadForward<Element>&, void* scratch);
  void (*head_backward)(const HeadTraining<Element>&, const HeadBackward<Element>&, void* scratch);
};

struct TrainingKernels {
  TypedTrainingKernels<Bf16> bf16;
  TypedTrainingKernels<float> fp32;
  void (*keep_bits)(const KeepStream&, std::int64_t elements, std::uint8_t* bits);
};

/// Enough for forward and backward of a text and head of this length or a smaller one.
std::int64_t head_scratch_bytes(std::int64_t length, std::int64_t width, std::int64_t element_bytes);

/// Null where cpu_kernels() is.
const TrainingKernels* training_kernels();

extern const TrainingKernels kAvx512TrainingKernels;

}  // namespace muster::nn::kernels
