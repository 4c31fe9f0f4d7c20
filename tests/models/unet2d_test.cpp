// SPDX-License-Identifier: Apache-2.0
// The UNet against diffusers' (generate_unet2d.py), alone and in batches, and its gradients.
#include "muster/models/unet2d.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <vector>

#include "muster/core/error.h"
#include "muster/models/diffusion_folder.h"
#include "muster/nn/backend.h"
#include "muster/nn/trainable.h"

namespace muster::models {
namespace {

using nn::ComputeTarget;

constexpr auto kFp32 = c10::ScalarType::Float;
constexpr auto kBf16 = c10::ScalarType::BFloat16;
constexpr int kCases = 5;

std::string tests_folder() {
  return std::string(std::getenv("MUSTER_SOURCE_DIR")) + "/tests";
}

std::string pipeline(const std::string& name) {
  return tests_folder() + "/diffusion/fixtures/" + name;
}

// What diffusers made of it.
class Expected {
 public:
  explicit Expected(const std::string& name)
      : file_(formats::Safetensors::open(tests_folder() + "/models/fixtures/unet2d/" + name +
                                         ".safetensors")) {}

  at::Tensor tensor(const std::string& name) const {
    const auto view = file_.find(name);
    if (!view) return {};
    std::vector<std::int64_t> sizes(view->shape.begin(), view->shape.end());
    at::Tensor copy = at::empty(sizes, kFp32);
    std::memcpy(copy.mutable_data_ptr(), view->bytes.data(), view->bytes.size());
    return copy;
  }
  at::Tensor of(int number, const char* name) const { return tensor(fmt::format("{}.{}", number, name)); }

  std::vector<std::string> gradients() const {
    std::vector<std::string> names;
    for (const std::string& name : file_.names())
      if (name.starts_with("gradient.")) names.push_back(name.substr(9));
    return names;
  }

 private:
  formats::Safetensors file_;
};

struct Loaded {
  explicit Loaded(const std::string& name)
      : config_path(pipeline(name) + "/unet/config.json"),
        net(UNet2DConfig::read(formats::read_json(config_path))),
        checkpoint(open_component(pipeline(name), "unet")) {
    load_component(net, checkpoint, config_path);
  }

  std::string config_path;
  UNet2D net;
  formats::Safetensors checkpoint;
};

std::unique_ptr<Loaded> prepared(const std::string& name, c10::ScalarType dtype) {
  auto loaded = std::make_unique<Loaded>(name);
  loaded->net.prepare(ComputeTarget{.dtype = dtype});
  return loaded;
}

struct Inputs {
  at::Tensor latents, timesteps, hidden;
  UNetAdded added;

  Inputs(const Expected& expected, int number)
      : latents(expected.of(number, "latents")),
        timesteps(expected.of(number, "timesteps")),
        hidden(expected.of(number, "hidden")),
        added{expected.of(number, "text_embeds"), expected.of(number, "time_ids")} {}
};

at::Tensor run(const UNet2D& net, const Inputs& in) {
  return net.forward(in.latents, in.timesteps, net.condition(in.hidden, in.added));
}

// In units of the reference's largest value.
double distance(const at::Tensor& found, const at::Tensor& reference) {
  return ((found - reference).abs().max() / reference.abs().max()).item<double>();
}

class UNetFixture : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { nn::use_one_thread(); }
};

TEST_P(UNetFixture, EqualsDiffusers) {
  const c10::NoGradGuard no_graph;
  const Expected expected(GetParam());
  struct {
    c10::ScalarType dtype;
    double tolerance;
  } const rows[] = {{kFp32, 1e-5}, {kBf16, 0.04}};
  for (const auto& row : rows) {
    const auto model = prepared(GetParam(), row.dtype);
    double largest = 0;
    for (int number = 0; number < kCases; ++number)
      largest = std::max(
          largest, distance(run(model->net, Inputs(expected, number)), expected.of(number, "expected")));
    fmt::print("{} {}: largest difference {:.2g} of the largest value\n", GetParam(),
               c10::toString(row.dtype), largest);
    EXPECT_LE(largest, row.tolerance) << c10::toString(row.dtype);
  }
}

TEST_P(UNetFixture, GradientsEqualDiffusers) {
  const Expected expected(GetParam());
  Loaded model(GetParam());
  std::map<std::string, at::Tensor> leaves;
  model.net.visit_parameters([&](const std::string& name, nn::Parameter& parameter) {
    parameter.value = parameter.value.to(kFp32).set_requires_grad(true);
    leaves[name] = parameter.value;
  });
  const Inputs in(expected, 0);
  const at::Tensor out = run(model.net, in);
  EXPECT_LE(distance(out.detach(), expected.of(0, "expected")), 1e-5);
  const at::Tensor loss = (out * expected.of(0, "loss_weights")).sum();
  const auto names = expected.gradients();
  std::vector<at::Tensor> wanted;
  for (const std::string& name : names) wanted.push_back(leaves.at(name));
  double largest = 0;
  nn::trainable::backward(loss, wanted, [&](std::size_t leaf, const at::Tensor& gradient) {
    ASSERT_TRUE(gradient.defined()) << names[leaf];
    const double one = distance(gradient, expected.tensor("gradient." + names[leaf]));
    EXPECT_LE(one, 3e-5) << names[leaf];
    largest = std::max(largest, one);
  });
  fmt::print("{}: largest difference of {} gradients {:.2g} of their largest value\n", GetParam(),
             names.size(), largest);
}

// Sizes whose elements are no whole vectors, so that a vectorised tail would show.
TEST_P(UNetFixture, ASampleDoesNotDependOnItsCompanions) {
  const c10::NoGradGuard no_graph;
  const Expected expected(GetParam());
  for (const auto dtype : {kFp32, kBf16}) {
    const auto model = prepared(GetParam(), dtype);
    for (const auto& [height, width] : {std::pair{9, 13}, std::pair{16, 16}}) {
      Inputs in(expected, 1);
      at::manual_seed(3);
      in.latents = at::randn({3, model->net.config().in_channels, height, width});
      const UNetCondition condition = model->net.condition(in.hidden, in.added);
      const at::Tensor together = model->net.forward(in.latents, in.timesteps, condition);
      for (int i = 0; i < 3; ++i) {
        UNetAdded added;
        if (in.added.time_ids.defined())
          added = {in.added.text_embeds.narrow(0, i, 1), in.added.time_ids.narrow(0, i, 1)};
        const at::Tensor alone = model->net.forward(in.latents.narrow(0, i, 1), in.timesteps.narrow(0, i, 1),
                                                    model->net.condition(in.hidden.narrow(0, i, 1), added));
        EXPECT_TRUE(at::equal(alone, together.narrow(0, i, 1)))
            << c10::toString(dtype) << " sample " << i << " of " << height << " x " << width;
        const at::Tensor taken = model->net.forward(in.latents.narrow(0, i, 1), in.timesteps.narrow(0, i, 1),
                                                    condition.narrow(i, 1));
        EXPECT_TRUE(at::equal(taken, alone)) << "its rows taken out of the condition";
      }
      const UNetCondition joined =
          UNetCondition::join({condition.narrow(2, 1), condition.narrow(0, 1), condition.narrow(1, 1)});
      const auto order = [](const at::Tensor& x) {
        return at::cat({x.narrow(0, 2, 1), x.narrow(0, 0, 1), x.narrow(0, 1, 1)});
      };
      EXPECT_TRUE(
          at::equal(model->net.forward(order(in.latents), order(in.timesteps), joined), order(together)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Pipelines, UNetFixture, testing::Values("sd15", "sd2", "sdxl"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace muster::models
