// SPDX-License-Identifier: Apache-2.0
// Every fast path against its plain ATen twin, and the exactness that models rely on.
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <thread>

#include "muster/core/error.h"
#include "muster/nn/attention.h"
#include "muster/nn/backend.h"
#include "muster/nn/linear.h"
#include "muster/nn/post_norm_block.h"
#include "muster/nn/tiles.h"

namespace muster::nn {
namespace {

constexpr auto kFp32 = c10::ScalarType::Float;
constexpr auto kBf16 = c10::ScalarType::BFloat16;

at::Tensor random_tensor(std::vector<std::int64_t> sizes, c10::ScalarType dtype = kFp32, double scale = 1.0) {
  return (at::randn(sizes) * scale).to(dtype);
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(c10::ScalarType::Double) - b.to(c10::ScalarType::Double)).abs().max().item<double>();
}

class Nn : public testing::Test {
 protected:
  Nn() {
    use_one_thread();
    at::manual_seed(1);
  }
};

using Tiles = Nn;
using LinearLayer = Nn;
using Attention = Nn;
using Block = Nn;

TEST_F(Tiles, Padding) {
  EXPECT_EQ(padded_rows(0), 0);
  EXPECT_EQ(padded_rows(1), 256);
  EXPECT_EQ(padded_rows(256), 256);
  EXPECT_EQ(padded_rows(257), 512);
}

// fp64 has no reordered path, so it stands for what a LibTorch without one computes.
TEST_F(LinearLayer, AgreesWithThePlainProduct) {
  const Activation activations[] = {Activation::kIdentity, Activation::kRelu, Activation::kGelu,
                                    Activation::kGeluTanh, Activation::kSilu, Activation::kTanh,
                                    Activation::kSigmoid};
  struct Row {
    c10::ScalarType dtype;
    std::int64_t in, out;
    double tolerance;
  };
  for (const auto& [dtype, in, out, tolerance] :
       {Row{kFp32, 384, 120, 1e-5}, Row{kFp32, 33, 7, 1e-5}, Row{c10::ScalarType::Double, 40, 72, 1e-5},
        Row{kBf16, 384, 120, 0.02}, Row{kBf16, 66, 130, 0.02}}) {
    const at::Tensor weight = random_tensor({out, in}, dtype, 1 / std::sqrt(in)),
                     bias = random_tensor({out}, dtype);
    const at::Tensor x = random_tensor({kTileRows, in}, dtype);
    const at::Tensor plain = at::linear(x.to(kFp32), weight.to(kFp32), bias.to(kFp32));
    for (const Activation activation : activations) {
      const PackedLinear layer(weight, bias, activation, {c10::DeviceType::CPU, dtype});
      EXPECT_LE(difference(layer.forward(x), activate(plain, activation)), tolerance)
          << in << "x" << out << ", activation " << static_cast<int>(activation);
    }
    const PackedLinear layer(weight, {}, Activation::kIdentity, {c10::DeviceType::CPU, dtype});
    const at::Tensor residual = random_tensor({kTileRows, out}, dtype);
    EXPECT_LE(difference(layer.forward_add(x, residual), plain - bias.to(kFp32) + residual.to(kFp32)),
              2 * tolerance);
  }
}

TEST_F(LinearLayer, TakesWholeTilesOnly) {
  const PackedLinear layer(random_tensor({4, 8}), {}, Activation::kIdentity, {});
  EXPECT_THROW(layer.forward(random_tensor({255, 8})), core::InternalError);
}

TEST_F(LinearLayer, ARowDependsOnItselfAlone) {
  for (const auto dtype : {kFp32, kBf16})
    for (const auto& [in, out] :
         {std::pair{384, 1152}, {384, 1536}, {1536, 384}, {768, 768}, {40, 72}, {66, 33}, {33, 7}}) {
      const PackedLinear layer(random_tensor({out, in}, dtype), random_tensor({out}, dtype),
                               Activation::kGelu, {c10::DeviceType::CPU, dtype});
      const at::Tensor x = random_tensor({kTileRows, in}, dtype), y = layer.forward(x);
      const at::Tensor order = at::randperm(kTileRows);
      EXPECT_TRUE(at::equal(layer.forward(x.index_select(0, order)), y.index_select(0, order)))
          << in << "x" << out;
      at::Tensor others = random_tensor({kTileRows, in}, dtype);
      others[200].copy_(x[3]);
      EXPECT_TRUE(at::equal(layer.forward(others)[200], y[3])) << in << "x" << out;
    }
}

// Softmax as in the paper, in fp64.
at::Tensor plain_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& bias) {
  at::Tensor scores = at::matmul(q, k.transpose(-1, -2)) / std::sqrt(static_cast<double>(q.size(-1)));
  if (bias.defined()) scores = scores + bias;
  return at::matmul(at::softmax(scores, -1), v);
}

TEST_F(Attention, Runs) {
  const std::vector<std::uint32_t> lengths{3, 3, 1, 3, 3, 3};
  const auto runs = runs_of_equal_length(lengths);
  ASSERT_EQ(runs.size(), 3u);
  EXPECT_EQ(runs[0].count, 2);
  EXPECT_EQ(runs[1].first_row, 6);
  EXPECT_EQ(runs[2].first_row, 7);
  EXPECT_EQ(runs[2].count, 3);
  EXPECT_TRUE(runs_of_equal_length({}).empty());
}

TEST_F(Attention, AgreesWithTheDefinition) {
  for (const auto& [heads, width] : {std::pair{2, 32}, {3, 20}, {1, 33}})
    for (const bool biased : {false, true}) {
      const HeadShape shape{heads, width};
      const std::int64_t padded = shape.padded_width(kFp32);
      const std::vector<std::uint32_t> lengths{5, 5, 40, 1};
      at::Tensor qkv = random_tensor({kTileRows, 3, heads, padded});
      qkv.narrow(3, width, padded - width).zero_();
      const at::Tensor bias = biased ? random_tensor({1, heads, 64, 64}) : at::Tensor();
      at::Tensor context = at::full({kTileRows, heads * padded}, NAN);
      attend(qkv.flatten(1), runs_of_equal_length(lengths), shape, bias, context);
      std::int64_t row = 0;
      for (const std::int64_t length : lengths) {
        const at::Tensor own =
            qkv.narrow(0, row, length).narrow(3, 0, width).permute({1, 2, 0, 3}).to(c10::ScalarType::Double);
        const at::Tensor own_bias = biased ? bias[0].narrow(1, 0, length).narrow(2, 0, length) : bias;
        const at::Tensor expected =
            plain_attention(own[0], own[1], own[2], own_bias).transpose(0, 1);  // [length, heads, width]
        const at::Tensor got =
            context.narrow(0, row, length).view({length, heads, padded}).narrow(2, 0, width);
        EXPECT_LE(difference(got, expected), 2e-6) << heads << " heads of " << width << ", length " << length;
        row += length;
      }
      EXPECT_EQ(context.narrow(0, row, kTileRows - row).abs().sum().item<float>(), 0.0f)
          << "rows behind the last text";
    }
}

TEST_F(Attention, HeadsStartOnCacheLines) {
  EXPECT_EQ((HeadShape{12, 32}.padded_width(kFp32)), 32);
  EXPECT_EQ((HeadShape{12, 32}.padded_width(kBf16)), 32);
  EXPECT_EQ((HeadShape{3, 20}.padded_width(kFp32)), 32);
  EXPECT_EQ((HeadShape{3, 48}.padded_width(kFp32)), 48);
  EXPECT_EQ((HeadShape{3, 48}.padded_width(kBf16)), 64);
}

struct Shape {
  std::int64_t hidden, heads;
};

// Head widths of real models and odd ones, at every place of a batch.
TEST_F(Block, ASequenceDependsOnItselfAlone) {
  for (const auto dtype : {kFp32, kBf16})
    for (const auto& [hidden, heads] :
         {Shape{384, 12}, Shape{128, 2}, Shape{60, 3}, Shape{48, 2}, Shape{66, 2}, Shape{21, 3}}) {
      PostNormBlock block(
          {.layers = 1, .hidden = {hidden, ""}, .intermediate = {2 * hidden, ""}, .heads = heads});
      block.visit_parameters([&](const std::string& name, Parameter& parameter) {
        const bool norm = name.find("Norm.weight") != name.npos;
        parameter.value = random_tensor(parameter.sizes(), kFp32, 2 / std::sqrt(hidden)) + (norm ? 1.0 : 0.0);
      });
      block.prepare({c10::DeviceType::CPU, dtype});
      const std::int64_t width = heads * HeadShape{heads, hidden / heads}.padded_width(dtype);
      const auto run = [&](const at::Tensor& rows, std::vector<std::uint32_t> lengths) {
        at::Tensor x = at::zeros({padded_rows(rows.size(0)), hidden}, dtype);
        x.narrow(0, 0, rows.size(0)).copy_(rows);
        BlockBuffers buffers{at::empty({x.size(0), 3 * width}, dtype), at::empty({x.size(0), width}, dtype)};
        block.forward(x, runs_of_equal_length(lengths), {}, buffers);
        return x;
      };
      for (const std::uint32_t length : {1u, 2u, 3u, 7u, 16u, 33u, 129u, 260u}) {
        const at::Tensor text = random_tensor({length, hidden}, dtype),
                         other = random_tensor({length, hidden}, dtype);
        const at::Tensor alone = run(text, {length}).narrow(0, 0, length);
        const at::Tensor before = random_tensor({5, hidden}, dtype);
        const at::Tensor among = run(at::cat({before, other, text, other}), {5, length, length, length});
        EXPECT_TRUE(at::equal(among.narrow(0, 5 + length, length), alone))
            << c10::toString(dtype) << ", hidden " << hidden << ", " << heads << " heads, length " << length;
      }
    }
}

TEST_F(Block, DeclaresItsWeightsWithoutHoldingThem) {
  PostNormStack stack(
      {.layers = 3, .hidden = {40, "hidden_size"}, .intermediate = {72, "intermediate_size"}, .heads = 5});
  EXPECT_EQ(stack.parameter_count(), 3u * (4 * (40 * 40 + 40) + 2 * 40 * 72 + 72 + 40 + 4 * 40));
  std::vector<std::string> names;
  stack.visit_parameters([&](const std::string& name, const Parameter& parameter) {
    names.push_back(name + " " + parameter.reason());
    EXPECT_FALSE(parameter.value.defined());
  });
  EXPECT_EQ(names.front(), "0.attention.self.query.weight hidden_size=40");
  EXPECT_NE(std::find(names.begin(), names.end(),
                      "2.intermediate.dense.weight intermediate_size=72, hidden_size=40"),
            names.end());
}

TEST_F(Nn, WorkersComputeOnOneThread) {
  int threads = 0;
  std::thread([&] {
    use_one_thread();
    threads = at::get_num_threads();
  }).join();
  EXPECT_EQ(threads, 1);
}

TEST_F(Nn, Backend) {
  EXPECT_TRUE(torch_device({}).is_cpu());
  EXPECT_EQ(torch_version().substr(0, 2), "2.");
#if defined(__x86_64__)
  EXPECT_TRUE(has_reordered_linear()) << "the plain path is correct, but slower";
#endif
}

}  // namespace
}  // namespace muster::nn
