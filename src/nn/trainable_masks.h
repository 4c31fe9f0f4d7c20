// SPDX-License-Identifier: Apache-2.0
// Which elements a Dropout drops.
//
// On the CPU whether an element is kept is a function of (seed, step, item, site, number of the element
// within its text), by Philox4x32-10 in two stages:
//   stage 1   counter {step, item}, key {seed}                   -> words k0 .. k3, one for a text and step
//   stage 2   counter {element / 8, site, k2, k3}, key {k0, k1}  -> eight 16-bit numbers, low halves first
// 64-bit values lie low word first; element e has number e % 8 of its block and is kept when that is at least
// round(65536 * probability). Kept elements are scaled by the inverse of the share that is kept on these
// 65536 steps, so that the expectation is exact. Elements count
//   drop, add_norm   row * width + column
//   attend           (head * length + query) * length + key
// Elsewhere masks are LibTorch's, its generator seeded by (seed, step, site, first item): a run repeats, also
// when a layer is computed twice, but a text's mask depends on its micro-batch.
#pragma once
#include <ATen/core/Tensor.h>

#include "muster/nn/trainable.h"
#include "nn/kernels/keep_bits.h"

namespace muster::nn::trainable {

/// False when nothing is dropped.
bool drops(const Dropout& dropout);

/// What kept elements are multiplied by.
float keep_scale(const Dropout& dropout);

kernels::KeepStream keep_stream(const Dropout& dropout, std::uint64_t item);

/// One bit an element, set when it is kept; each text begins on a whole 64-bit word.
class KeepBits {
 public:
  KeepBits() = default;
  /// `elements_of_text(length)` elements for each text.
  template <typename Elements>
  KeepBits(const Dropout& dropout, const Elements& elements_of_text) {
    std::vector<std::int64_t> elements;
    for (const std::uint32_t length : dropout.texts->lengths) elements.push_back(elements_of_text(length));
    fill(dropout, elements);
  }

  bool defined() const { return bits_.defined(); }
  const std::uint8_t* text(std::size_t number) const;
  /// fp32 [elements], 0 or `kept`, of one text.
  at::Tensor factors(std::size_t number, std::int64_t elements, float kept) const;

 private:
  void fill(const Dropout& dropout, const std::vector<std::int64_t>& elements);

  at::Tensor bits_;
  std::vector<std::int64_t> begin_;  // bytes
};

/// [rows, width] as `x`: 0 or keep_scale, for any device.
at::Tensor row_factors(const at::Tensor& x, const Dropout& dropout);

/// Seeds the generator of a device without masks of ours, for one use.
void seed_generator(const c10::Device& device, const Dropout& dropout, std::uint64_t item);

}  // namespace muster::nn::trainable
