// SPDX-License-Identifier: Apache-2.0
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "muster/nn/backend.h"
#include "muster/nn/upsampled_conv.h"

namespace muster::nn {
namespace {

constexpr std::int64_t kIn = 6, kOut = 5;

at::Tensor numbers(std::vector<std::int64_t> sizes, double first) {
  std::int64_t count = 1;
  for (const auto size : sizes) count *= size;
  return (at::arange(count, at::kFloat) * 1.7 + first).sin().view(sizes);
}

void fill(UpsampledConv2d& conv) {
  conv.visit_parameters([](const std::string& name, Parameter& parameter) {
    parameter.value = numbers(parameter.sizes(), name == "weight" ? 0.3 : 2.0);
  });
}

at::Tensor reference(const at::Tensor& x, std::int64_t height, std::int64_t width) {
  return at::conv2d(at::upsample_nearest2d(x, {height, width}), numbers({kOut, kIn, 3, 3}, 0.3),
                    numbers({kOut}, 2.0), /*stride=*/1, /*padding=*/1);
}

struct Row {
  Enlargement enlargement;
  std::int64_t samples, rows, columns, height, width;
};

constexpr Row kRows[] = {
    {Enlargement::kDoubled, 1, 4, 6, 8, 12}, {Enlargement::kDoubled, 3, 5, 3, 10, 6},
    {Enlargement::kDoubled, 2, 1, 1, 2, 2},  {Enlargement::kAny, 2, 4, 5, 8, 10},
    {Enlargement::kAny, 2, 4, 5, 7, 10},     {Enlargement::kAny, 1, 4, 5, 7, 9},
};

TEST(UpsampledConv, IsTheConvolutionOfTheLargerPicture) {
  use_one_thread();
  const at::NoGradGuard no_graph;
  for (const Row& row : kRows) {
    const at::Tensor x = numbers({row.samples, kIn, row.rows, row.columns}, 1.0);
    const at::Tensor expected = reference(x, row.height, row.width);
    UpsampledConv2d plain(Extent{kIn, ""}, Extent{kOut, ""}, row.enlargement);
    fill(plain);
    EXPECT_TRUE(at::allclose(plain.enlarge(x, row.height, row.width), expected, 1e-5, 1e-5));
    UpsampledConv2d prepared(Extent{kIn, ""}, Extent{kOut, ""}, row.enlargement);
    fill(prepared);
    prepared.prepare({});
    const at::Tensor made = prepared.enlarge(x, row.height, row.width);
    ASSERT_EQ(made.sizes(), expected.sizes());
    EXPECT_LE((made - expected).abs().max().item<double>(), 1e-5) << row.height << "x" << row.width;
    for (std::int64_t i = 0; i < row.samples; ++i)
      EXPECT_TRUE(
          at::equal(made.narrow(0, i, 1), prepared.enlarge(x.narrow(0, i, 1), row.height, row.width)));
  }
}

TEST(UpsampledConv, KeepsGradientsBeforeItIsPrepared) {
  use_one_thread();
  UpsampledConv2d conv(Extent{kIn, ""}, Extent{kOut, ""}, Enlargement::kDoubled);
  fill(conv);
  at::Tensor weight;
  conv.visit_parameters([&](const std::string& name, Parameter& parameter) {
    if (name == "weight") weight = parameter.value.requires_grad_();
  });
  conv.enlarge(numbers({2, kIn, 3, 3}, 1.0)).sum().backward();
  EXPECT_GT(weight.grad().abs().min().item<double>(), 0);
}

TEST(UpsampledConv, LiveAdaptersChangeTheWeight) {
  use_one_thread();
  const at::NoGradGuard no_graph;
  const LowRank adapter{
      .down = numbers({2, kIn, 3, 3}, 0.1), .up = numbers({kOut, 2, 1, 1}, 0.2), .scale = 0.5};
  const at::Tensor x = numbers({1, kIn, 4, 3}, 1.0);
  UpsampledConv2d live(Extent{kIn, ""}, Extent{kOut, ""}, Enlargement::kDoubled);
  fill(live);
  live.attach(adapter);
  live.prepare({});
  UpsampledConv2d whole(Extent{kIn, ""}, Extent{kOut, ""}, Enlargement::kDoubled);
  fill(whole);
  whole.visit_parameters([&](const std::string& name, Parameter& parameter) {
    if (name == "weight") parameter.value = merged(parameter.value, adapter);
  });
  whole.prepare({});
  EXPECT_TRUE(at::allclose(live.enlarge(x), whole.enlarge(x), 1e-4, 1e-4));
  EXPECT_FALSE(at::allclose(live.enlarge(x), reference(x, 8, 6), 1e-2, 1e-2));
}

}  // namespace
}  // namespace muster::nn
