// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/trainable_memory.h"

#include "nn/trainable_elements.h"

namespace muster::nn::trainable {
namespace {

constexpr double kWideBytes = 4;  // of what LibTorch's layers compute in fp32
constexpr double kBitsInAByte = 8;

}  // namespace

double attend_bytes(std::int64_t length, const HeadShape& shape, const KeptType& type) {
  const auto rows = static_cast<double>(length), heads = static_cast<double>(shape.heads);
  const double probabilities = heads * rows * rows;
  const bool drops = type.drops == Drops::kSome;
  if (has_own_passes(type.dtype)) {
    const std::int64_t columns = head_columns(shape.width);
    const double widened = columns == shape.width ? 0 : 3.0 * static_cast<double>(columns);
    return heads * rows * (sizeof(float) + widened * static_cast<double>(c10::elementSize(type.dtype))) +
           (drops ? probabilities / kBitsInAByte : 0);
  }
  const double factors = drops ? kWideBytes : 0;
  const bool is_wide = type.dtype == c10::ScalarType::Float;
  const double product = is_wide && !drops ? 0 : static_cast<double>(c10::elementSize(type.dtype));
  return probabilities * (kWideBytes + factors + product);
}

double add_norm_bytes(std::int64_t length, std::int64_t width, const KeptType& type) {
  const double values = static_cast<double>(length) * static_cast<double>(width);
  const bool drops = type.drops == Drops::kSome;
  if (has_own_passes(type.dtype))
    return values * (static_cast<double>(c10::elementSize(type.dtype)) + (drops ? 1 / kBitsInAByte : 0));
  return values * (drops ? 2 * kWideBytes : kWideBytes);
}

}  // namespace muster::nn::trainable
