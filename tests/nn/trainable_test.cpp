// SPDX-License-Identifier: Apache-2.0
// Differentiable layers against twins written plainly with LibTorch's own differentiable operators.
#include <cmath>

#include "nn/kernels/training_kernels.h"
#include "nn/trainable_masks.h"
#include "trainable_support.h"

namespace muster::nn::trainable {
namespace {

// 0 or 1 / kept share for every element, from the definition of a mask.
at::Tensor mask_twin(const Dropout& dropout, const std::function<std::int64_t(std::int64_t)>& elements) {
  std::vector<at::Tensor> parts;
  for (std::size_t i = 0; i < dropout.texts->lengths.size(); ++i) {
    const std::int64_t count = elements(dropout.texts->lengths[i]);
    const auto stream = keep_stream(dropout, dropout.texts->items[i]);
    std::vector<std::uint8_t> bits(static_cast<std::size_t>(kernels::keep_bytes(count)));
    kernels::keep_bits(stream, count, bits.data());
    at::Tensor part = at::zeros({count});
    for (std::int64_t e = 0; e < count; ++e)
      if ((bits[static_cast<std::size_t>(e / 8)] >> (e % 8)) & 1)
        part.mutable_data_ptr<float>()[e] = keep_scale(dropout);
    parts.push_back(part);
  }
  return at::cat(parts);
}

struct Outcome {
  at::Tensor value;
  std::vector<at::Tensor> gradients;
};

// Value and gradients of sum(function(leaves) * weights) with leaves of `dtype`.
Outcome run(const Function& function, std::span<const at::Tensor> inputs, c10::ScalarType dtype) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& input : inputs) {
    const bool keeps_type = !at::isFloatingType(input.scalar_type()) || input.dim() == 0;
    leaves.push_back(input.to(keeps_type ? input.scalar_type() : dtype, false, /*copy=*/true));
    leaves.back().set_requires_grad(at::isFloatingType(leaves.back().scalar_type()));
  }
  const at::Tensor value = function(leaves);
  at::manual_seed(11);
  const at::Tensor weights = at::randn(value.sizes());
  Outcome outcome{value.detach(), std::vector<at::Tensor>(leaves.size())};
  backward((value.to(kFp32) * weights).sum(), leaves,
           [&](std::size_t leaf, const at::Tensor& gradient) { outcome.gradients[leaf] = gradient; });
  return outcome;
}

void expect_like(const Outcome& found, const Outcome& reference, double tolerance) {
  ASSERT_EQ(found.value.sizes(), reference.value.sizes());
  EXPECT_LE(distance(found.value, reference.value), tolerance);
  for (std::size_t i = 0; i < found.gradients.size(); ++i) {
    ASSERT_EQ(found.gradients[i].defined(), reference.gradients[i].defined()) << "input " << i;
    if (!found.gradients[i].defined()) continue;
    ASSERT_EQ(found.gradients[i].sizes(), reference.gradients[i].sizes()) << "input " << i;
    EXPECT_LE(distance(found.gradients[i], reference.gradients[i]), tolerance) << "gradient of input " << i;
  }
}

struct Numbers {
  c10::ScalarType dtype;
  double tolerance;
};
constexpr Numbers kNumbers[] = {{kFp32, 1e-5}, {kBf16, 0.02}, {kFp16, 0.004}};

// The layer in every type against the twin in fp32 on the same (rounded) inputs.
void compare(const Function& layer, const Function& twin, std::span<const at::Tensor> inputs) {
  for (const Numbers& numbers : kNumbers) {
    SCOPED_TRACE(c10::toString(numbers.dtype));
    std::vector<at::Tensor> rounded;
    for (const at::Tensor& input : inputs)
      rounded.push_back(at::isFloatingType(input.scalar_type()) && input.dim() > 0
                            ? input.to(numbers.dtype).to(kFp32)
                            : input);
    expect_like(run(layer, rounded, numbers.dtype), run(twin, rounded, kFp32), numbers.tolerance);
  }
}

class Trainable : public TrainableTest {};
class KeptBits : public TrainableTest {};

struct Shape {
  std::int64_t rows, in, out;
};
constexpr Shape kShapes[] = {{1, 32, 16},    {7, 48, 50}, {33, 64, 3},
                             {300, 130, 97}, {5, 31, 1},  {64, 384, 96}};

TEST_F(Trainable, Linear) {
  for (const auto& [rows, in, out] : kShapes) {
    SCOPED_TRACE(testing::Message() << rows << "x" << in << "x" << out);
    const at::Tensor inputs[] = {normal({rows, in}), normal({out, in}, 1 / std::sqrt(in)), normal({out})};
    compare([](auto x) { return trainable::linear(x[0], x[1], x[2]); },
            [](auto x) { return at::linear(x[0], x[1], x[2]); }, inputs);
    compare([](auto x) { return trainable::linear(x[0], x[1], {}); },
            [](auto x) { return at::linear(x[0], x[1]); }, std::span(inputs).first(2));
    compare([](auto x) { return linear_gelu(x[0], x[1], x[2]); },
            [](auto x) { return at::gelu(at::linear(x[0], x[1], x[2])); }, inputs);
  }
}

TEST_F(Trainable, LinearsSideBySide) {
  const at::Tensor inputs[] = {normal({37, 64}),      normal({48, 64}, 0.1), normal({17, 64}, 0.1),
                               normal({64, 64}, 0.1), normal({48}),          normal({17})};
  compare(
      [](auto x) {
        return linears(x[0], x.subspan(1, 3), std::vector<at::Tensor>{x[4], x[5], {}});
      },
      [](auto x) {
        return at::cat({at::linear(x[0], x[1], x[4]), at::linear(x[0], x[2], x[5]), at::linear(x[0], x[3])},
                       1);
      },
      inputs);
}

TEST_F(Trainable, OnlyWantedGradients) {
  for (const auto dtype : {kFp32, kBf16})
    for (int wanted = 0; wanted < 3; ++wanted) {
      std::vector<at::Tensor> leaves = {normal({9, 32}).to(dtype), normal({16, 32}).to(dtype),
                                        normal({16}).to(dtype)};
      leaves[static_cast<std::size_t>(wanted)].set_requires_grad(true);
      backward(trainable::linear(leaves[0], leaves[1], leaves[2]).to(kFp32).sum(), leaves,
               [&](std::size_t leaf, const at::Tensor& gradient) {
                 EXPECT_EQ(gradient.defined(), static_cast<int>(leaf) == wanted);
               });
    }
}

TEST_F(Trainable, Embed) {
  const at::Tensor indices = at::randint(0, 40, {300}, c10::ScalarType::Long);
  const at::Tensor inputs[] = {normal({50, 33}), indices};
  compare([](auto x) { return embed(x[0], x[1]); }, [](auto x) { return at::embedding(x[0], x[1]); }, inputs);
}

// Many rows of one entry: a sum kept in 16 bits would stop growing.
TEST_F(Trainable, EmbedSumsInFp32) {
  const at::Tensor inputs[] = {normal({2, 32}), at::zeros({5000}, c10::ScalarType::Long)};
  const Function layer = [](auto x) { return embed(x[0], x[1]) + 1; };
  const at::Tensor leaf = inputs[0].to(kBf16).set_requires_grad(true);
  backward(embed(leaf, inputs[1]).to(kFp32).sum(), std::span(&leaf, 1),
           [&](std::size_t, const at::Tensor& gradient) {
             EXPECT_NEAR(gradient[0].min().item<float>(), 5000, 20);
             EXPECT_EQ(gradient[1].abs().max().item<float>(), 0);
           });
}

const Lengths kLengths[] = {{1}, {512}, {17, 17, 1, 128, 40}, {2, 3, 5, 7, 11, 48, 49}};

TEST_F(Trainable, Drop) {
  for (const Lengths& lengths : kLengths)
    for (const double probability : {0.0, 0.1, 0.5}) {
      const Dropout dropout = dropout_of(probability, texts_of(lengths));
      const std::int64_t width = 33;
      const at::Tensor inputs[] = {normal({dropout.texts->rows, width})};
      const at::Tensor mask = mask_twin(dropout, [&](auto n) { return n * width; }).view({-1, width});
      compare([&](auto x) { return drop(x[0], dropout); }, [&](auto x) { return x[0] * mask; }, inputs);
    }
}

TEST_F(Trainable, AddNorm) {
  for (const std::int64_t width : {20, 64, 384})
    for (const Lengths& lengths : kLengths)
      for (const double probability : {0.0, 0.25}) {
        const Dropout dropout = dropout_of(probability, texts_of(lengths));
        const std::int64_t rows = dropout.texts->rows;
        const at::Tensor inputs[] = {normal({rows, width}), normal({rows, width}), normal({width}, 0.5) + 1,
                                     normal({width})};
        const at::Tensor mask = mask_twin(dropout, [&](auto n) { return n * width; }).view({-1, width});
        const auto norm = [&](auto x, const at::Tensor& sum) {
          return at::layer_norm(sum, {width}, x[2], x[3], 1e-6);
        };
        compare(
            [&](auto x) {
              return add_norm(x[0], x[1], {x[2], x[3], 1e-6}, dropout);
            },
            [&](auto x) { return norm(x, x[0] * mask + x[1]); }, inputs);
        compare(
            [&](auto x) {
              return add_norm(x[0], {}, {x[2], x[3], 1e-6}, dropout) + 0 * x[1];
            },
            [&](auto x) { return norm(x, x[0] * mask) + 0 * x[1]; }, inputs);
      }
}

// Text by text, from the formula.
at::Tensor attend_twin(const at::Tensor& qkv, const HeadShape& shape, const at::Tensor& bias,
                       const Dropout& dropout) {
  const at::Tensor mask = mask_twin(dropout, [&](auto n) { return shape.heads * n * n; });
  std::vector<at::Tensor> parts;
  std::int64_t row = 0, element = 0;
  for (const std::int64_t n : dropout.texts->lengths) {
    const at::Tensor heads =
        qkv.narrow(0, row, n).view({n, 3, shape.heads, shape.width}).permute({1, 2, 0, 3});
    at::Tensor scores = at::matmul(heads[0], heads[1].transpose(1, 2)) / std::sqrt(shape.width);
    if (bias.defined()) {
      const std::int64_t longest = (bias.size(1) + 1) / 2;
      const at::Tensor distance = at::arange(n).unsqueeze(0) - at::arange(n).unsqueeze(1) + longest - 1;
      scores = scores + bias.index_select(1, distance.reshape({-1})).view({shape.heads, n, n});
    }
    const std::int64_t elements = shape.heads * n * n;
    const at::Tensor weights =
        at::softmax(scores, -1) * mask.narrow(0, element, elements).view({shape.heads, n, n});
    parts.push_back(at::matmul(weights, heads[2]).transpose(0, 1).reshape({n, -1}));
    row += n;
    element += elements;
  }
  return at::cat(parts);
}

TEST_F(Trainable, Attend) {
  for (const HeadShape shape : {HeadShape{2, 32}, HeadShape{1, 64}, HeadShape{3, 8}})
    for (const Lengths& lengths : kLengths)
      for (const double probability : {0.0, 0.1})
        for (const bool biased : {false, true}) {
          SCOPED_TRACE(testing::Message() << shape.width << " wide, " << lengths.size() << " texts, "
                                          << probability << (biased ? " biased" : ""));
          const Dropout dropout = dropout_of(probability, texts_of(lengths));
          const std::int64_t rows = dropout.texts->rows;
          const at::Tensor qkv = normal({rows, 3 * shape.heads * shape.width});
          const at::Tensor bias = normal({shape.heads, 2 * 515 - 1}).to(kBf16).to(kFp32);
          const at::Tensor inputs[] = {qkv, bias};
          compare(
              [&](auto x) { return attend(x[0], shape, biased ? x[1].to(kFp32) : at::Tensor(), dropout); },
              [&](auto x) { return attend_twin(x[0], shape, biased ? x[1] : at::Tensor(), dropout); },
              std::span(inputs).first(biased ? 2 : 1));
        }
}

TEST_F(Trainable, Loss) {
  for (const auto& [gamma, positive_weight, positive_target] :
       {LossConfig{}, LossConfig{2, 1, 1}, LossConfig{0.5, 3, 0.9}}) {
    const LossConfig config{gamma, positive_weight, positive_target};
    const at::Tensor targets = at::bernoulli(at::full({7, 13}, 0.3)), weights = at::rand({7, 13});
    const at::Tensor inputs[] = {normal({7, 13}, 3)};
    const auto power = [&](const at::Tensor& x) { return at::pow(x, config.focal_gamma); };
    compare(
        [&](auto x) { return classification_loss(x[0].to(kFp32), targets, weights, 0.25, config).view({1}); },
        [&](auto x) {
          const at::Tensor p = at::sigmoid(x[0]), y = targets * config.positive_target;
          const at::Tensor loss =
              -config.positive_weight * y * power(1 - p) * at::log(p) - (1 - y) * power(p) * at::log(1 - p);
          return (loss * weights).sum().view({1}) * 0.25;
        },
        inputs);
  }
  const at::Tensor extreme = at::tensor({200.0f, -200.0f, 200.0f, -200.0f}).set_requires_grad(true);
  const at::Tensor targets = at::tensor({1.0f, 0.0f, 0.0f, 1.0f});
  const at::Tensor loss = classification_loss(extreme, targets, at::ones({4}), 1, {2, 1, 1});
  EXPECT_NEAR(loss.item<float>(), 400, 1e-3);
  backward(loss, std::span(&extreme, 1), [](std::size_t, const at::Tensor& gradient) {
    EXPECT_LE(distance(gradient, at::tensor({0.0f, 0.0f, 1.0f, -1.0f})), 1e-6);
  });
}

TEST_F(KeptBits, OfTheKernelAreThoseOfTheDefinition) {
  if (!kernels::training_kernels()) GTEST_SKIP() << "this processor has no kernel of its own for them";
  for (const std::int64_t elements : {1, 63, 64, 65, 4096, 100001})
    for (const double probability : {0.1, 0.5, 0.9}) {
      const Dropout dropout = dropout_of(probability, texts_of({1}));
      const auto stream = keep_stream(dropout, 0xfedcba9876543210u);
      const auto bytes = static_cast<std::size_t>(kernels::keep_bytes(elements));
      std::vector<std::uint8_t> plain(bytes), own(bytes);
      kernels::keep_bits(stream, elements, plain.data());
      kernels::training_kernels()->keep_bits(stream, elements, own.data());
      EXPECT_EQ(own, plain) << elements << " elements, " << probability;
    }
}

TEST_F(KeptBits, HaveTheProbabilityAndTheirOwnStreams) {
  const auto texts = texts_of({1});
  const Dropout base = dropout_of(0.1, texts);
  const auto bits_of = [](const Dropout& dropout, std::uint64_t item) {
    std::vector<std::uint8_t> bits(static_cast<std::size_t>(kernels::keep_bytes(80000)));
    kernels::keep_bits(keep_stream(dropout, item), 80000, bits.data());
    return bits;
  };
  const auto first = bits_of(base, 1);
  std::int64_t kept = 0;
  for (const std::uint8_t byte : first) kept += __builtin_popcount(byte);
  EXPECT_NEAR(static_cast<double>(kept) / (8 * first.size()), 0.9, 0.005);
  EXPECT_EQ(first, bits_of(base, 1));
  Dropout step = base, seed = base, site = base;
  step.randomness.step += std::uint64_t{1} << 32;
  seed.randomness.seed += std::uint64_t{1} << 32;
  ++site.site;
  for (const auto& other : {bits_of(step, 1), bits_of(seed, 1), bits_of(site, 1), bits_of(base, 2),
                            bits_of(base, 1 + (std::uint64_t{1} << 32))}) {
    std::int64_t differing = 0;
    for (std::size_t i = 0; i < first.size(); ++i) differing += __builtin_popcount(first[i] ^ other[i]);
    EXPECT_NEAR(static_cast<double>(differing) / (8 * first.size()), 2 * 0.1 * 0.9, 0.01);
  }
}

}  // namespace
}  // namespace muster::nn::trainable
