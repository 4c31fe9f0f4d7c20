// SPDX-License-Identifier: Apache-2.0
// Our own CPU kernels against their plain ATen twins.
#include "nn/kernels/cpu_kernels.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "muster/nn/attention.h"
#include "muster/nn/linear.h"
#include "muster/nn/norm.h"
#include "muster/nn/post_norm_block.h"
#include "muster/nn/tiles.h"
#include "nn/kernels/packed_weight.h"

namespace muster::nn {
namespace {

constexpr auto kFp32 = c10::ScalarType::Float;
constexpr auto kBf16 = c10::ScalarType::BFloat16;
constexpr double kBf16Step = 1.0 / 128;  // between neighbouring bf16 numbers in [1, 2)

at::Tensor random_bf16(std::vector<std::int64_t> sizes, double scale = 1.0) {
  return (at::randn(sizes) * scale).to(kBf16);
}

double largest(const at::Tensor& x) {
  return x.to(c10::ScalarType::Double).abs().max().item<double>();
}

class Kernels : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(7);
    if (!kernels::cpu_kernels())
      GTEST_SKIP()
          << "this processor has no AVX512-BF16 and AVX512-VNNI (or ATEN_CPU_CAPABILITY forbids them)";
  }
};

at::Tensor multiply(const kernels::PackedWeight& weight, const at::Tensor& x,
                    const at::Tensor& residual = {}) {
  at::Tensor out = at::empty({x.size(0), weight.out()}, kBf16);
  weight.multiply(x, residual, out);
  return out;
}

struct Shape {
  std::int64_t rows, in, out;
};

// Row counts around a block, columns around a vector and a panel, inputs that are no whole groups.
constexpr Shape kShapes[] = {{1, 32, 16}, {7, 64, 48},   {8, 384, 1152}, {9, 66, 49}, {15, 130, 17},
                             {31, 6, 1},  {256, 96, 95}, {300, 31, 5},   {12, 4, 97}, {257, 2, 144}};

TEST_F(Kernels, Bf16ProductWithBiasAndResidual) {
  for (const auto& [rows, in, out] : kShapes) {
    const at::Tensor w = random_bf16({out, in}, 1 / std::sqrt(in)), x = random_bf16({rows, in});
    const at::Tensor bias = at::randn({out}), residual = random_bf16({rows, out});
    const kernels::PackedWeight packed(w, bias, kernels::LinearActivation::kIdentity,
                                       kernels::WeightStorage::kBf16);
    const at::Tensor exact = at::linear(x.to(kFp32), w.to(kFp32), bias);
    EXPECT_LE(largest(multiply(packed, x) - exact), 4 * kBf16Step) << rows << "x" << in << "x" << out;
    EXPECT_LE(largest(multiply(packed, x, residual) - exact - residual), 4 * kBf16Step) << rows << "x" << in;
  }
}

// The quantization of groups of inputs written out with ATen; the kernel may only round sums differently.
at::Tensor int8_twin(const at::Tensor& x, const at::Tensor& w) {
  at::Tensor sum = at::zeros({x.size(0), w.size(0)});
  for (std::int64_t first = 0; first < x.size(1); first += kernels::kInt8Group) {
    const std::int64_t count = std::min(kernels::kInt8Group, x.size(1) - first);
    const at::Tensor a = x.narrow(1, first, count), b = w.narrow(1, first, count);
    const at::Tensor low = at::amin(a, {1}, true), scale = (at::amax(a, {1}, true) - low) / 255;
    const at::Tensor b_scale = at::amax(b.abs(), {1}, true) / 127;
    sum += at::matmul(at::round((a - low) / scale) * scale + low, (at::round(b / b_scale) * b_scale).t());
  }
  return sum;
}

TEST_F(Kernels, Int8Product) {
  for (const auto& [rows, in, out] : kShapes) {
    if (in < 16) continue;  // a row of few values has no meaningful scale
    const at::Tensor w = random_bf16({out, in}, 1 / std::sqrt(in)).to(kFp32);
    const at::Tensor x = random_bf16({rows, in}) + 0.5;
    const kernels::PackedWeight packed(w, {}, kernels::LinearActivation::kIdentity,
                                       kernels::WeightStorage::kInt8);
    const at::Tensor got = multiply(packed, x);
    EXPECT_LE(largest(got - at::linear(x.to(kFp32), w)), 0.12) << rows << "x" << in << "x" << out;
    // Inputs that are no whole groups of 4 are followed by zeros, which count for the range.
    const std::int64_t behind = (4 - in % 4) % 4;
    const at::Tensor whole = at::constant_pad_nd(x.to(kFp32), {0, behind}),
                     w_whole = at::constant_pad_nd(w, {0, behind});
    EXPECT_LE(largest(got - int8_twin(whole, w_whole)), 4 * kBf16Step) << rows << "x" << in << "x" << out;
  }
}

TEST_F(Kernels, Int8GroupsKeepLargeFeaturesFromDrowningTheOthers) {
  const at::Tensor w = at::randn({64, 512}) / std::sqrt(512);
  at::Tensor x = random_bf16({20, 512});
  x.select(1, 300).mul_(60);
  const kernels::PackedWeight packed(w, {}, kernels::LinearActivation::kIdentity,
                                     kernels::WeightStorage::kInt8);
  const at::Tensor exact = at::linear(x.to(kFp32), w);
  EXPECT_LE(largest(multiply(packed, x) - exact), 0.35);
  // With one scale a row the error would be about twice that.
  const at::Tensor low = at::amin(x.to(kFp32), {1}, true),
                   scale = (at::amax(x.to(kFp32), {1}, true) - low) / 255;
  EXPECT_GT(largest(at::linear(at::round((x.to(kFp32) - low) / scale) * scale + low, w) - exact),
            1.3 * largest(multiply(packed, x) - exact));
}

TEST_F(Kernels, ARowOfAProductDependsOnItselfAlone) {
  for (const auto storage : {kernels::WeightStorage::kBf16, kernels::WeightStorage::kInt8})
    for (const std::int64_t in : {768, 31}) {
      const kernels::PackedWeight packed(random_bf16({100, in}, 0.1), at::randn({100}),
                                         kernels::LinearActivation::kGelu, storage);
      const at::Tensor x = random_bf16({300, in});
      const at::Tensor all = multiply(packed, x);
      for (const std::int64_t first : {0, 1, 5, 255, 290})
        for (const std::int64_t rows : {1, 2, 3, 7, 8, 10}) {
          const at::Tensor some = multiply(packed, x.narrow(0, first, rows));
          EXPECT_TRUE(at::equal(some, all.narrow(0, first, rows))) << rows << " rows from " << first;
        }
    }
}

TEST_F(Kernels, Activations) {
  using enum kernels::LinearActivation;
  const at::Tensor x = at::cat({at::linspace(-12, 12, 4001), at::tensor({-80.f, -40.f, 0.f, 40.f, 80.f})});
  const at::Tensor one = at::zeros({x.size(0), 4}, kBf16);
  one.select(1, 0).copy_(x);
  at::Tensor pick = at::zeros({1, 4});
  pick[0][0] = 1;
  for (const auto& [activation, twin] : {std::pair{kRelu, Activation::kRelu},
                                         {kGelu, Activation::kGelu},
                                         {kGeluTanh, Activation::kGeluTanh},
                                         {kSilu, Activation::kSilu},
                                         {kTanh, Activation::kTanh},
                                         {kSigmoid, Activation::kSigmoid}}) {
    const kernels::PackedWeight packed(pick, {}, activation, kernels::WeightStorage::kBf16);
    const at::Tensor expected = activate(one.select(1, 0).to(kFp32), twin);
    const at::Tensor got = multiply(packed, one).select(1, 0).to(kFp32);
    // Half a step of bf16, and the kernel's own error where the result is small.
    const at::Tensor allowed = expected.abs() * (kBf16Step / 2 * 1.01) + 3e-6;
    EXPECT_LE(largest(at::clamp_min((got - expected).abs() - allowed, 0)), 0) << static_cast<int>(activation);
  }
}

TEST_F(Kernels, LayerNorm) {
  for (const std::int64_t width : {1, 15, 16, 33, 384, 768, 1024}) {
    LayerNorm norm({width, ""}, 1e-5);
    const at::Tensor gamma = at::randn({width}), beta = at::randn({width});
    norm.visit_parameters(
        [&](const std::string& name, Parameter& p) { p.value = name == "weight" ? gamma : beta; });
    norm.prepare({c10::DeviceType::CPU, kBf16});
    const at::Tensor x = random_bf16({5, width}, 3.0) + 2.0;
    const at::Tensor expected = at::layer_norm(x.to(kFp32), {width}, gamma, beta, 1e-5);
    EXPECT_LE(largest((norm.forward(x) - expected) / (expected.abs() + 1)), kBf16Step) << width;
  }
}

// softmax(Q K^T / sqrt(width) + bias) V in fp32 on the same bf16 inputs; `distances` [heads, 2n - 1] or
// undefined.
at::Tensor attention_twin(const at::Tensor& qkv, std::int64_t width, const at::Tensor& distances) {
  const std::int64_t length = qkv.size(0), heads = qkv.size(2);
  const at::Tensor x = qkv.to(kFp32).permute({1, 2, 0, 3});  // [3, heads, length, padded width]
  at::Tensor scores = at::matmul(x[0], x[1].transpose(1, 2)) / std::sqrt(width);
  if (distances.defined()) {
    const at::Tensor key_minus_query = at::arange(length).unsqueeze(0) - at::arange(length).unsqueeze(1);
    const at::Tensor place = (key_minus_query + distances.size(1) / 2).flatten();
    scores = scores + distances.index_select(1, place).view({heads, length, length});
  }
  return at::matmul(at::softmax(scores, -1), x[2]).transpose(0, 1);  // [length, heads, padded width]
}

TEST_F(Kernels, AttentionAgreesWithTheDefinition) {
  for (const auto& [heads, width] : {std::pair{3L, 64L}, {2L, 32L}, {1L, 128L}, {2L, 20L}, {1L, 80L}})
    for (const std::int64_t length : {1, 2, 3, 8, 15, 16, 17, 47, 48, 49, 96, 131, 512})
      for (const bool biased : {false, true}) {
        const HeadShape shape{heads, width};
        const std::int64_t padded = shape.padded_width(kBf16);
        at::Tensor qkv = random_bf16({length + 3, 3, heads, padded});
        qkv.narrow(3, width, padded - width).zero_();
        const at::Tensor distances = biased ? at::randn({heads, 2 * 512 - 1}) : at::Tensor();
        const auto bias =
            biased ? AttentionBias::by_distance(distances, {c10::DeviceType::CPU, kBf16}) : AttentionBias();
        at::Tensor context = at::full({length + 3, heads * padded}, NAN, kBf16);
        const SequenceRun run{0, 1, length};
        attend(qkv.flatten(1), {&run, 1}, shape, bias, context);
        const at::Tensor expected = attention_twin(qkv.narrow(0, 0, length), width, distances);
        const at::Tensor got = context.narrow(0, 0, length).view({length, heads, padded});
        EXPECT_LE(largest(got - expected), 3 * kBf16Step)
            << heads << " heads of " << width << ", length " << length << (biased ? ", biased" : "");
        EXPECT_EQ(largest(context.narrow(0, length, 3)), 0.0) << "rows behind the last text";
      }
}

TEST_F(Kernels, ByDistanceIsTheSameBiasForBothKinds) {
  const at::Tensor distances = at::randn({2, 2 * 9 - 1});
  const auto spread = AttentionBias::by_distance(distances, {});
  ASSERT_TRUE(spread.scores().defined());
  ASSERT_EQ(spread.scores().sizes(), (std::vector<std::int64_t>{1, 2, 9, 9}));
  for (std::int64_t query : {0, 3, 8})
    for (std::int64_t key : {0, 4, 8})
      EXPECT_EQ(spread.scores()[0][1][query][key].item<float>(), distances[1][key - query + 8].item<float>());
  EXPECT_TRUE(AttentionBias::by_distance(distances, {c10::DeviceType::CPU, kBf16}).distances().defined());
}

TEST_F(Kernels, Int8BlockIsNearBf16AndAlone) {
  constexpr std::int64_t kHidden = 96, kHeads = 3;
  const auto make = [&](WeightType weights) {
    at::manual_seed(3);
    auto block = std::make_unique<PostNormBlock>(PostNormConfig{
        .layers = 1, .hidden = {kHidden, ""}, .intermediate = {4 * kHidden, ""}, .heads = kHeads});
    block->visit_parameters([&](const std::string& name, Parameter& p) {
      const bool norm = name.find("Norm.weight") != name.npos;
      p.value = at::randn(p.sizes()) / std::sqrt(kHidden) + (norm ? 1.0 : 0.0);
    });
    block->prepare({c10::DeviceType::CPU, kBf16, weights});
    return block;
  };
  const auto run = [&](const PostNormBlock& block, const at::Tensor& rows) {
    at::Tensor x = rows.clone();
    BlockBuffers buffers{at::empty({x.size(0), 3 * kHidden}, kBf16), at::empty({x.size(0), kHidden}, kBf16)};
    const SequenceRun all{0, 1, x.size(0)};
    block.forward(x, {&all, 1}, {}, buffers);
    return x;
  };
  const at::Tensor x = random_bf16({37, kHidden});
  const at::Tensor bf16 = run(*make(WeightType::kAsActivations), x), int8 = run(*make(WeightType::kInt8), x);
  const double cosine =
      at::cosine_similarity(bf16.flatten().to(kFp32), int8.flatten().to(kFp32), 0).item<double>();
  EXPECT_GE(cosine, 0.999);
  EXPECT_LT(cosine, 0.99999999) << "int8 was not used";
}

}  // namespace
}  // namespace muster::nn
