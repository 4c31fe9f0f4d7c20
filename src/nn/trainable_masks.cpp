// SPDX-License-Identifier: Apache-2.0
#include "nn/trainable_masks.h"

#include <ATen/Context.h>
#include <ATen/Functions.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>

#include "muster/core/error.h"
#include "muster/core/philox.h"
#include "nn/kernels/training_kernels.h"

namespace muster::nn::trainable {
namespace {

constexpr double kNumbers = 65536;

std::uint16_t threshold(const Dropout& dropout) {
  return static_cast<std::uint16_t>(
      std::clamp(std::round(dropout.probability * kNumbers), 0.0, kNumbers - 1));
}

std::array<std::uint32_t, 2> words(std::uint64_t value) {
  return {static_cast<std::uint32_t>(value), static_cast<std::uint32_t>(value >> 32)};
}

}  // namespace

bool drops(const Dropout& dropout) {
  return dropout.probability > 0;
}

float keep_scale(const Dropout& dropout) {
  return static_cast<float>(kNumbers / (kNumbers - threshold(dropout)));
}

kernels::KeepStream keep_stream(const Dropout& dropout, std::uint64_t item) {
  const auto step = words(dropout.randomness.step), number = words(item);
  const auto k = core::philox4x32({step[0], step[1], number[0], number[1]}, words(dropout.randomness.seed));
  return {{k[0], k[1]}, {dropout.site, k[2], k[3]}, threshold(dropout)};
}

void KeepBits::fill(const Dropout& dropout, const std::vector<std::int64_t>& elements) {
  const auto& items = dropout.texts->items;
  core::internal_check(items.size() == elements.size(), "every text has an item number to drop by");
  std::int64_t bytes = 0;
  for (const std::int64_t count : elements) {
    begin_.push_back(bytes);
    bytes += kernels::keep_bytes(count);
  }
  // Kernels read 32 bits at any byte.
  bits_ = at::empty({bytes + std::int64_t{sizeof(std::uint32_t)}}, c10::ScalarType::Byte);
  auto* bits = bits_.mutable_data_ptr<std::uint8_t>();
  const auto keep_bits =
      kernels::training_kernels() ? kernels::training_kernels()->keep_bits : kernels::keep_bits;
  for (std::size_t text = 0; text < elements.size(); ++text)
    keep_bits(keep_stream(dropout, items[text]), elements[text], bits + begin_[text]);
}

const std::uint8_t* KeepBits::text(std::size_t number) const {
  return bits_.const_data_ptr<std::uint8_t>() + begin_[number];
}

at::Tensor KeepBits::factors(std::size_t number, std::int64_t elements, float kept) const {
  at::Tensor factors = at::empty({elements}, c10::ScalarType::Float);
  const std::uint8_t* bits = text(number);
  auto* to = factors.mutable_data_ptr<float>();
  for (std::int64_t e = 0; e < elements; ++e) to[e] = (bits[e / 8] >> (e % 8)) & 1 ? kept : 0.0f;
  return factors;
}

void seed_generator(const c10::Device& device, const Dropout& dropout, std::uint64_t item) {
  const auto stream = keep_stream(dropout, item);
  const auto mixed = core::philox4x32({0, stream.counter[0], stream.counter[1], stream.counter[2]},
                                      {stream.key[0], stream.key[1]});
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_current_seed(mixed[0] | std::uint64_t{mixed[1]} << 32);
}

at::Tensor row_factors(const at::Tensor& x, const Dropout& dropout) {
  const auto& texts = *dropout.texts;
  if (!x.device().is_cpu()) {
    seed_generator(x.device(), dropout, texts.items.empty() ? 0 : texts.items.front());
    const double keep = 1.0 - dropout.probability;
    return at::empty_like(x).bernoulli_(keep).mul_(1.0 / keep);
  }
  const std::int64_t width = x.size(1);
  const KeepBits bits(dropout, [&](std::int64_t length) { return length * width; });
  at::Tensor factors = at::empty(x.sizes(), x.options());
  std::int64_t row = 0;
  for (std::size_t text = 0; text < texts.lengths.size(); ++text) {
    const std::int64_t length = texts.lengths[text];
    factors.narrow(0, row, length)
        .copy_(bits.factors(text, length * width, keep_scale(dropout)).view({length, width}));
    row += length;
  }
  return factors;
}

}  // namespace muster::nn::trainable
