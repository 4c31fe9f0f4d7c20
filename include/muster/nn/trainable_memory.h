// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "muster/nn/attention.h"

/// What the layers of trainable.h keep of a text for backward, beside what goes into them and comes out: for
/// plans of memory, on the CPU.
namespace muster::nn::trainable {

enum class Drops : std::uint8_t { kNone, kSome };

struct KeptType {
  c10::ScalarType dtype = c10::ScalarType::Float;
  Drops drops = Drops::kSome;
};

double attend_bytes(std::int64_t length, const HeadShape& shape, const KeptType& type);
double add_norm_bytes(std::int64_t length, std::int64_t width, const KeptType& type);

}  // namespace muster::nn::trainable
