// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "models/pooling.h"

namespace muster::models {

/// Texts of a batch, one after another.
struct TextRows {
  std::span<const std::uint32_t> lengths;
  std::uint32_t prompt_tokens = 0;  ///< at the start of each text, left out
};

/// pool() of all texts at once on the device that has the hidden states [rows, hidden], so that only the
/// vectors need to leave it: fp32 [texts, modes * hidden]. Each value is added up token by token by one
/// thread, in the order of pool(): the texts beside it play no part. Rows behind the last text are ignored.
at::Tensor pool_batch(const at::Tensor& states, const TextRows& texts, std::span<const Pooling> modes);

}  // namespace muster::models
