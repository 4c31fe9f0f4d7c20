// SPDX-License-Identifier: Apache-2.0
#include "nn/kernels/training_kernels.h"

namespace muster::nn::kernels {
namespace {

constexpr std::int64_t kCacheLine = 64, kMostPieces = 12;

constexpr std::int64_t vectors(std::int64_t length) {
  return (length + 15) / 16 * 16;
}

}  // namespace

std::int64_t head_scratch_bytes(std::int64_t length, std::int64_t width, std::int64_t element_bytes) {
  const std::int64_t block_row = kQueryBlock * (2 * std::int64_t{sizeof(float)} + element_bytes);
  return vectors(length) * (7 * width * element_bytes + block_row) +
         2 * length * vectors(length) * element_bytes + kMostPieces * kCacheLine;
}

const TrainingKernels* training_kernels() {
#if defined(__x86_64__)
  if (cpu_kernels()) return &kAvx512TrainingKernels;
#endif
  return nullptr;
}

}  // namespace muster::nn::kernels
