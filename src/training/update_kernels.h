// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>

namespace muster::training {

/// One run of weights on the CPU.
struct RawRange {
  float* parameters;
  float* first_moment;
  float* second_moment;
  const float* gradient;
  std::size_t count;
};

/// The numbers of one update, as both forms use them.
struct RawStep {
  float gradient_factor;
  float beta1, beta2, one_minus_beta1, one_minus_beta2;
  float epsilon;
  float step_size;         ///< what m / denominator is multiplied with
  float root_correction2;  ///< sqrt(1 - beta2^t), kAdamW only
  float decay;             ///< kAdamW: 1 - lr * decay, kAdamWHf: lr * decay
};

void adamw_update(const RawStep& step, const RawRange& range);
void adamw_hf_update(const RawStep& step, const RawRange& range);
void average_update(float* average, const float* values, float share, std::size_t count);
/// Of squares, in double and in one order.
double sum_of_squares(const float* values, std::size_t count);

}  // namespace muster::training
