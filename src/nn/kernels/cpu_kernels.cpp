// SPDX-License-Identifier: Apache-2.0
#include "nn/kernels/cpu_kernels.h"

#include <ATen/Version.h>

#include <array>
#include <cmath>

namespace muster::nn::kernels {
namespace {

constexpr int kTerms = 5;

double half_erf(double x) {
  return 0.5 * std::erf(x / std::sqrt(2.0));
}

// Coefficients, constant first, of the polynomial through half_erf at the piece's Chebyshev nodes, by
// Newton's divided differences. The variable is the distance from the middle in units of a piece.
std::array<double, kTerms> interpolate(int piece) {
  std::array<double, kTerms> node, difference, result{};
  for (int i = 0; i < kTerms; ++i) {
    node[i] = 0.5 * std::cos((2 * i + 1) * 3.14159265358979323846 / (2 * kTerms));
    difference[i] = half_erf((piece + 0.5 + node[i]) * kGeluEnd / kGeluPieces);
  }
  for (int order = 1; order < kTerms; ++order)
    for (int i = kTerms - 1; i >= order; --i)
      difference[i] = (difference[i] - difference[i - 1]) / (node[i] - node[i - order]);
  for (int i = kTerms - 1; i >= 0; --i) {  // result = result * (x - node[i]) + difference[i]
    for (int power = kTerms - 1; power >= 0; --power)
      result[power] = (power > 0 ? result[power - 1] : 0.0) - node[i] * result[power];
    result[0] += difference[i];
  }
  return result;
}

GeluTable make_gelu_table() {
  GeluTable table;
  for (int piece = 0; piece < kGeluPieces; ++piece) {
    const auto coefficients = interpolate(piece);
    for (int power = 0; power < kTerms; ++power)
      table.coefficients[power][piece] = static_cast<float>(coefficients[power]);
  }
  return table;
}

}  // namespace

const GeluTable& gelu_table() {
  static const GeluTable table = make_gelu_table();
  return table;
}

std::int64_t attention_scratch_bytes(std::int64_t keys, std::int64_t width) {
  constexpr std::int64_t kVector = 16;
  const std::int64_t whole_keys = (keys + kPanelColumns - 1) / kPanelColumns * kPanelColumns;
  const std::int64_t columns = (width + kVector - 1) / kVector * kVector;
  return 2 * whole_keys * columns * std::int64_t{sizeof(Bf16)} +
         kQueryBlock * whole_keys * std::int64_t{sizeof(float) + sizeof(Bf16)};
}

const CpuKernels* cpu_kernels() {
#if defined(__x86_64__)
  static const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                                 __builtin_cpu_supports("avx512bf16") &&
                                 __builtin_cpu_supports("avx512vnni") && at::get_cpu_capability() == "AVX512";
  if (has_avx512) return &kAvx512Kernels;
#endif
  return nullptr;
}

LinearFp32 linear_fp32() {
#if defined(__x86_64__)
  static const bool only_avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && at::get_cpu_capability() == "AVX2";
  if (only_avx2) return linear_fp32_avx2;
#endif
  return nullptr;
}

}  // namespace muster::nn::kernels
