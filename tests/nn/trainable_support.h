// SPDX-License-Identifier: Apache-2.0
// What the tests of differentiable layers share.
#pragma once
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "muster/nn/backend.h"
#include "muster/nn/trainable.h"

namespace muster::nn::trainable {

inline constexpr auto kFp32 = c10::ScalarType::Float;
inline constexpr auto kBf16 = c10::ScalarType::BFloat16;
inline constexpr auto kFp16 = c10::ScalarType::Half;

using Lengths = std::vector<std::uint32_t>;
using Function = std::function<at::Tensor(std::span<const at::Tensor>)>;

inline std::shared_ptr<const Texts> texts_of(const Lengths& lengths, std::uint64_t first_item = 100) {
  Texts texts{lengths, {}, runs_of_equal_length(lengths), 0};
  for (std::size_t i = 0; i < lengths.size(); ++i) texts.items.push_back(first_item + i);
  texts.rows = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  return std::make_shared<const Texts>(std::move(texts));
}

inline Dropout dropout_of(double probability, std::shared_ptr<const Texts> texts) {
  return {probability, 3, {.seed = 0x123456789abcdefu, .step = 41}, std::move(texts)};
}

inline at::Tensor normal(std::vector<std::int64_t> sizes, double scale = 1.0) {
  return at::randn(sizes) * scale;
}

// Largest distance in units of the reference's largest value, or of 1 / 2 where that is next to nothing.
inline double distance(const at::Tensor& found, const at::Tensor& reference) {
  const at::Tensor wide = reference.to(c10::ScalarType::Double);
  return ((found.to(c10::ScalarType::Double) - wide).abs().max() / at::clamp_min(wide.abs().max(), 0.5))
      .item<double>();
}

class TrainableTest : public testing::Test {
 protected:
  void SetUp() override {
    use_one_thread();
    at::manual_seed(5);
  }
};

}  // namespace muster::nn::trainable
