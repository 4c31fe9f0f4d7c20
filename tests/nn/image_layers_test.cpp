// SPDX-License-Identifier: Apache-2.0
// Layers over pictures, prepared and before, against LibTorch's in fp32; and that samples are computed alone.
#include "muster/nn/image_layers.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "muster/nn/backend.h"
#include "muster/nn/geglu.h"
#include "muster/nn/norm.h"
#include "nn/kernels/cpu_kernels.h"

namespace muster::nn {
namespace {

constexpr auto kFp32 = c10::ScalarType::Float;
constexpr auto kBf16 = c10::ScalarType::BFloat16;
constexpr c10::ScalarType kTypes[] = {kFp32, kBf16};

class ImageLayers : public testing::Test {
 protected:
  void SetUp() override {
    use_one_thread();
    at::manual_seed(11);
  }
  const c10::NoGradGuard no_graph_;
};

// Numbers that bf16 holds exactly, so that both types start from the same.
at::Tensor numbers(std::vector<std::int64_t> sizes, double scale = 1) {
  return (at::randn(sizes) * scale).to(kBf16).to(kFp32);
}

void fill(Module& module) {
  module.visit_parameters([](const std::string& name, Parameter& parameter) {
    const auto sizes = parameter.sizes();
    double inputs = 1;
    for (std::size_t i = 1; i < sizes.size(); ++i) inputs *= static_cast<double>(sizes[i]);
    parameter.value = numbers(sizes, 1 / std::sqrt(inputs));
    if (sizes.size() == 1 && name == "weight") parameter.value += 1;
  });
}

double distance(const at::Tensor& found, const at::Tensor& expected) {
  EXPECT_EQ(found.sizes(), expected.sizes());
  return ((found.to(kFp32) - expected).abs().max() / expected.abs().max()).item<double>();
}

// Sums in another order, or rounding to the type: once by our own kernels, at every step by LibTorch's.
double tolerance(c10::ScalarType dtype) {
  if (dtype == kFp32) return 2e-6;
  return kernels::cpu_kernels() ? 5e-3 : 1.2e-2;
}

void expect_samples_alone(const at::Tensor& together, const std::function<at::Tensor(std::int64_t)>& alone,
                          const std::string& what) {
  for (std::int64_t i = 0; i < together.size(0); ++i)
    EXPECT_TRUE(at::equal(alone(i), together.narrow(0, i, 1))) << what << ", sample " << i;
}

struct ConvRow {
  std::int64_t in, out;
  ConvShape shape;
  std::int64_t samples, height, width;
};
constexpr ConvShape kThree{}, kOne{1, 1, 0}, kHalving{3, 2, 1}, kHalvingUnpadded{3, 2, 0}, kFive{5, 1, 2};
// Odd channels, more pixels than a block, blocks of all row counts, panels of one to three vectors and cut
// ones, more input than a cached panel holds.
constexpr ConvRow kConvRows[] = {
    {3, 8, kThree, 2, 7, 5},      {4, 50, kThree, 3, 9, 13},
    {16, 96, kHalving, 2, 9, 12}, {6, 40, kHalvingUnpadded, 1, 8, 9},
    {34, 20, kOne, 3, 5, 7},      {20, 7, kFive, 2, 6, 6},
    {48, 4, kThree, 2, 16, 16},   {900, 56, kThree, 2, 4, 5},
    {2000, 48, kThree, 1, 3, 3},  {2, 16, kThree, 1, 1, 1},
};

TEST_F(ImageLayers, ConvolutionEqualsLibTorch) {
  for (const ConvRow& row : kConvRows)
    for (const auto dtype : kTypes) {
      const std::string what = fmt::format("{} {}->{} kernel {} stride {}", c10::toString(dtype), row.in,
                                           row.out, row.shape.kernel, row.shape.stride);
      Conv2d layer({row.in, ""}, {row.out, ""}, row.shape);
      fill(layer);
      const at::Tensor x = numbers({row.samples, row.in, row.height, row.width});
      const at::Tensor expected = layer.forward(x);
      const at::Tensor shift = numbers({row.samples, row.out}), residual = numbers(expected.sizes().vec());
      const at::Tensor shifted = layer.forward(x, shift), added = layer.forward_add(x, residual);
      EXPECT_LE(distance(shifted, expected + shift.unsqueeze(2).unsqueeze(3)), 1e-6) << what;
      EXPECT_LE(distance(added, expected + residual), 1e-6) << what;
      layer.prepare({.dtype = dtype});
      const auto typed = [&](const at::Tensor& tensor) { return tensor.to(dtype); };
      const at::Tensor found = layer.forward(typed(x));
      EXPECT_LE(distance(found, expected), tolerance(dtype)) << what;
      EXPECT_LE(distance(layer.forward(typed(x), typed(shift)), shifted), tolerance(dtype)) << what;
      EXPECT_LE(distance(layer.forward_add(typed(x), typed(residual)), added), tolerance(dtype)) << what;
      expect_samples_alone(
          found, [&](std::int64_t i) { return layer.forward(typed(x).narrow(0, i, 1)); }, what);
    }
}

TEST_F(ImageLayers, GroupNormEqualsLibTorch) {
  const struct {
    std::int64_t groups, channels, samples, height, width;
    double mean, scale;
  } rows[] = {{4, 8, 3, 9, 13, 0, 1}, {32, 320, 2, 5, 7, 0.5, 3},  {5, 35, 2, 17, 19, -3, 0.5},
              {1, 16, 1, 1, 1, 1, 1}, {2, 6, 2, 40, 40, 100, 0.5}, {8, 64, 2, 3, 3, 0, 1e-3}};
  for (const auto& row : rows)
    for (const auto dtype : kTypes)
      for (const auto activation : {Activation::kIdentity, Activation::kSilu, Activation::kTanh}) {
        const std::string what =
            fmt::format("{} {} channels in {} groups, activation {}", c10::toString(dtype), row.channels,
                        row.groups, static_cast<int>(activation));
        GroupNorm layer(row.groups, {row.channels, ""}, 1e-5);
        fill(layer);
        const at::Tensor x =
            (numbers({row.samples, row.channels, row.height, row.width}, row.scale) + row.mean).to(dtype);
        const at::Tensor expected = layer.forward(x.to(kFp32), activation);
        layer.prepare({.dtype = dtype});
        const at::Tensor found = layer.forward(x, activation);
        // A mean far from zero costs LibTorch's fp32 digits.
        const double digits = 1 + std::abs(row.mean) / row.scale;
        EXPECT_LE(distance(found, expected), tolerance(dtype) * (dtype == kFp32 ? digits : 1)) << what;
        expect_samples_alone(
            found, [&](std::int64_t i) { return layer.forward(x.narrow(0, i, 1), activation); }, what);
      }
}

TEST_F(ImageLayers, AttentionEqualsLibTorch) {
  const struct {
    std::int64_t tokens, keys, heads, width;
    Mask mask;
  } rows[] = {{100, 77, 2, 40, Mask::kNone}, {1, 1, 1, 2, Mask::kNone},    {65, 200, 3, 8, Mask::kNone},
              {30, 30, 2, 5, Mask::kNone},   {9, 77, 1, 160, Mask::kNone}, {77, 77, 2, 16, Mask::kCausal},
              {50, 49, 2, 48, Mask::kNone}};
  for (const auto& row : rows)
    for (const auto dtype : kTypes) {
      const std::string what = fmt::format("{} {} x {}, {} heads of {}", c10::toString(dtype), row.tokens,
                                           row.keys, row.heads, row.width);
      const std::int64_t columns = row.heads * row.width;
      const at::Tensor q = numbers({3, row.tokens, columns}), k = numbers({3, row.keys, columns}),
                       v = numbers({3, row.keys, columns});
      const auto heads = [&](const at::Tensor& x) {
        return x.view({3, x.size(1), row.heads, -1}).transpose(1, 2);
      };
      at::Tensor scores = at::matmul(heads(q), heads(k).transpose(2, 3)) / std::sqrt(double(row.width));
      if (row.mask == Mask::kCausal)
        scores = scores.masked_fill(at::ones({row.tokens, row.keys}, at::kBool).triu(1),
                                    -std::numeric_limits<double>::infinity());
      const at::Tensor expected =
          at::matmul(at::softmax(scores, -1), heads(v)).transpose(1, 2).reshape(q.sizes());
      const at::Tensor found = attend_all(q.to(dtype), k.to(dtype), v.to(dtype), row.heads, row.mask);
      EXPECT_LE(distance(found, expected), 2 * tolerance(dtype)) << what;
      expect_samples_alone(
          found,
          [&](std::int64_t i) {
            const auto one = [&](const at::Tensor& x) { return x.narrow(0, i, 1).to(dtype); };
            return attend_all(one(q), one(k), one(v), row.heads, row.mask);
          },
          what);
    }
}

TEST_F(ImageLayers, GegluEqualsItsFormula) {
  for (const std::int64_t width : {48, 16, 20})
    for (const auto dtype : kTypes) {
      Geglu layer({36, ""}, {width, ""});
      fill(layer);
      const at::Tensor x = numbers({3, 11, 36});
      at::Tensor weight, bias;
      layer.visit_parameters([&](const std::string& name, Parameter& parameter) {
        (name == "proj.weight" ? weight : bias) = parameter.value;
      });
      const auto halves = at::linear(x, weight, bias).chunk(2, -1);
      const at::Tensor expected = halves[0] * at::gelu(halves[1]);
      EXPECT_LE(distance(layer.forward(x), expected), 1e-6);
      layer.prepare({.dtype = dtype});
      const at::Tensor found = layer.forward(x.to(dtype));
      EXPECT_LE(distance(found, expected), 2 * tolerance(dtype)) << c10::toString(dtype) << " " << width;
      expect_samples_alone(
          found, [&](std::int64_t i) { return layer.forward(x.to(dtype).narrow(0, i, 1)); }, "geglu");
    }
}

TEST_F(ImageLayers, LinearAppliesToAnyRows) {
  const Activation activations[] = {Activation::kIdentity, Activation::kGelu, Activation::kQuickGelu,
                                    Activation::kSilu};
  for (const auto activation : activations)
    for (const auto dtype : kTypes) {
      Linear layer({30, ""}, {50, ""}, activation);
      fill(layer);
      const at::Tensor x = numbers({3, 5, 21, 30}), residual = numbers({3, 5, 21, 50});
      const at::Tensor plain = layer.apply(x), added = layer.apply(x, residual);
      const at::Tensor expected =
          activate(at::linear(x, layer.weight_value(), layer.bias_value()), activation);
      EXPECT_LE(distance(plain, expected), 1e-6);
      EXPECT_LE(distance(added, expected + residual), 1e-6);
      layer.prepare({.dtype = dtype});
      const at::Tensor found = layer.apply(x.to(dtype));
      const std::string what = fmt::format("{} {}", c10::toString(dtype), static_cast<int>(activation));
      EXPECT_LE(distance(found, expected), tolerance(dtype)) << what;
      EXPECT_LE(distance(layer.apply(x.to(dtype), residual.to(dtype)), expected + residual), tolerance(dtype))
          << what;
      expect_samples_alone(
          found, [&](std::int64_t i) { return layer.apply(x.to(dtype).narrow(0, i, 1)); }, what);
    }
}

TEST_F(ImageLayers, NormAndEmbeddingApplyToAnyShape) {
  LayerNorm norm({24, ""}, 1e-5);
  Embedding table({9, ""}, {24, ""});
  fill(norm);
  fill(table);
  const at::Tensor indices = at::randint(9, {2, 7}, c10::ScalarType::Long);
  const at::Tensor looked_up = table.apply(indices), normed = norm.apply(looked_up);
  EXPECT_EQ(looked_up.sizes(), (std::vector<std::int64_t>{2, 7, 24}));
  norm.prepare({});
  table.prepare({});
  EXPECT_TRUE(at::equal(table.apply(indices), looked_up));
  EXPECT_LE(distance(norm.apply(looked_up), normed), 1e-6);
}

LowRank adapter_for(const std::vector<std::int64_t>& weight, std::int64_t rank, bool has_magnitude,
                    double scale) {
  std::vector<std::int64_t> down = weight, up(weight.size(), 1);
  down[0] = rank;
  up[0] = weight[0];
  up[1] = rank;
  LowRank adapter{numbers(down, 0.3), numbers(up, 0.3), {}, scale};
  if (has_magnitude) adapter.magnitude = numbers({weight[0]}).abs() + 0.5;
  return adapter;
}

// By the formulas of the papers; of several, each works on what those before it made, with the norm of its
// own.
at::Tensor changed(const at::Tensor& weight, const std::vector<LowRank>& adapters) {
  at::Tensor all = weight.flatten(1);
  for (const LowRank& adapter : adapters) {
    const at::Tensor change = at::mm(adapter.up.flatten(1), adapter.down.flatten(1)) * adapter.scale;
    all = all + change;
    if (!adapter.magnitude.defined()) continue;
    all = all * (adapter.magnitude / (weight.flatten(1) + change).norm(2, 1)).unsqueeze(1);
  }
  return all.view(weight.sizes());
}

TEST_F(ImageLayers, AdaptersApplyLive) {
  const struct {
    const char* name;
    std::vector<bool> magnitudes;  // an adapter each
  } rows[] = {{"LoRA", {false}},
              {"DoRA", {true}},
              {"two LoRA", {false, false}},
              {"LoRA and two DoRA", {false, true, true}}};
  for (const auto& row : rows)
    for (const auto dtype : kTypes)
      for (const std::int64_t kernel : {0, 1, 3}) {  // 0: linear
        std::unique_ptr<Linear> linear;
        std::unique_ptr<Conv2d> conv;
        Module* module = nullptr;
        Adaptable* adaptable = nullptr;
        if (kernel == 0) {
          linear = std::make_unique<Linear>(Extent{20, ""}, Extent{36, ""}, Activation::kSilu);
          module = linear.get();
          adaptable = linear.get();
        } else {
          conv = std::make_unique<Conv2d>(Extent{20, ""}, Extent{36, ""}, ConvShape{kernel, 1, kernel / 2});
          module = conv.get();
          adaptable = conv.get();
        }
        fill(*module);
        const auto run = [&](const at::Tensor& x) { return linear ? linear->apply(x) : conv->forward(x); };
        const at::Tensor x = linear ? numbers({3, 7, 20}) : numbers({3, 20, 5, 6});
        std::vector<LowRank> adapters;
        for (const bool magnitude : row.magnitudes)
          adapters.push_back(adapter_for(adaptable->weight_shape(), 4, magnitude, 0.7));
        const at::Tensor unchanged = run(x);
        at::Tensor weight;
        module->visit_parameters([&](const std::string& name, Parameter& parameter) {
          if (name == "weight") weight = parameter.value;
        });
        const at::Tensor merged_weight = changed(weight, adapters), original = weight.clone();
        weight.copy_(merged_weight);
        const at::Tensor expected = run(x);
        weight.copy_(original);
        for (const LowRank& adapter : adapters) adaptable->attach(adapter);
        const std::string what = fmt::format("{} {} kernel {}", row.name, c10::toString(dtype), kernel);
        EXPECT_GT(distance(unchanged, expected), 0.05) << what;
        EXPECT_LE(distance(run(x), expected), 3e-6) << what << " before prepare()";
        module->prepare({.dtype = dtype});
        const at::Tensor found = run(x.to(dtype));
        EXPECT_LE(distance(found, expected), dtype == kBf16 ? 0.02 : 3e-6) << what;
        expect_samples_alone(
            found, [&](std::int64_t i) { return run(x.to(dtype).narrow(0, i, 1)); }, what);
      }
}

TEST_F(ImageLayers, QuickGeluHasItsFormula) {
  const at::Tensor x = numbers({50}), exact = x.to(c10::ScalarType::Double);
  EXPECT_LE(distance(activate(x, Activation::kQuickGelu), (exact / (1 + at::exp(-1.702 * exact))).to(kFp32)),
            1e-6);
  EXPECT_EQ(activation_from_hidden_act("quick_gelu"), Activation::kQuickGelu);
}

// 37 elements a sample: some belong to a vector's tail, and which ones depends on all in front of them.
TEST_F(ImageLayers, ActivationsAreComputedAlone) {
  const at::Tensor x = numbers({8, 37});
  for (const auto activation : {Activation::kSilu, Activation::kGelu, Activation::kTanh}) {
    const at::Tensor together = activate_each(x, activation);
    EXPECT_LE(distance(together, activate(x, activation)), 1e-6);
    expect_samples_alone(
        together, [&](std::int64_t i) { return activate(x.narrow(0, i, 1), activation); }, "activation");
  }
}

TEST_F(ImageLayers, UpsamplingRepeatsPixels) {
  const at::Tensor x = numbers({2, 3, 4, 5});
  const at::Tensor twice = upsample_nearest(x);
  EXPECT_TRUE(at::equal(twice, x.repeat_interleave(2, 2).repeat_interleave(2, 3)));
  EXPECT_TRUE(at::equal(upsample_nearest(x, 7, 9), twice.narrow(2, 0, 7).narrow(3, 0, 9)));
}

}  // namespace
}  // namespace muster::nn
