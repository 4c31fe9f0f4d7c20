// SPDX-License-Identifier: Apache-2.0
// How a head's keys and values lie in panels.
#pragma once
#include "nn/kernels/avx512/panels.h"

namespace muster::nn::kernels {
namespace {

constexpr int kKeyVectors = 3;  // of keys in a panel
constexpr std::int64_t kKeyPanel = kKeyVectors * kLanes;
constexpr int kValueVectors = 2;
constexpr std::int64_t kValuePanel = kValueVectors * kLanes;  // 32 columns of a head

constexpr float kLog2E = 1.44269504f;

}  // namespace
}  // namespace muster::nn::kernels
