// SPDX-License-Identifier: Apache-2.0
// What a UNet's config.json says, what is refused, and what a step costs by it.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/CPUAllocator.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "muster/core/error.h"
#include "muster/models/unet2d.h"
#include "muster/nn/backend.h"
#include "nn/kernels/cpu_kernels.h"

namespace muster::models {
namespace {

using testing::ElementsAre;

std::string config_text(const std::string& pipeline) {
  std::ifstream file(fmt::format("{}/tests/diffusion/fixtures/{}/unet/config.json",
                                 std::getenv("MUSTER_SOURCE_DIR"), pipeline));
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

UNet2DConfig read(const std::string& text) {
  return UNet2DConfig::read(formats::parse_json(text, "config.json"));
}

// Stable Diffusion 1.5's own, as it is published: many keys are missing.
constexpr const char* kStableDiffusion15 = R"({
  "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu",
  "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
  "cross_attention_dim": 768,
  "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
  "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
  "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]})";

TEST(UNetConfig, ReadsThePublishedForms) {
  const UNet2DConfig sd = read(kStableDiffusion15);
  EXPECT_THAT(sd.layers, ElementsAre(2, 2, 2, 2));
  EXPECT_THAT(sd.transformers, ElementsAre(1, 1, 1, 0));
  EXPECT_EQ(sd.mid_transformers, 1);
  EXPECT_THAT(sd.heads, ElementsAre(8, 8, 8, 8));
  EXPECT_EQ(sd.cross_width, 768);
  EXPECT_FALSE(sd.linear_projection);
  EXPECT_EQ(sd.added_projection_width, 0);

  const UNet2DConfig sd2 = read(config_text("sd2"));
  EXPECT_THAT(sd2.heads, ElementsAre(1, 2));
  EXPECT_TRUE(sd2.linear_projection);

  const UNet2DConfig xl = read(config_text("sdxl"));
  EXPECT_THAT(xl.transformers, ElementsAre(0, 1, 2));
  EXPECT_EQ(xl.mid_transformers, 2);
  EXPECT_EQ(xl.time_ids_width, 8);
  EXPECT_EQ(xl.added_projection_width, 88);
}

struct Change {
  const char* from;
  const char* to;
  const char* problem;  // empty: accepted
};

TEST(UNetConfig, RefusesOtherModelsByKey) {
  const Change changes[] = {
      {R"("class_embed_type": null)", R"("class_embed_type": "timestep")", "'class_embed_type' is set"},
      {R"("num_class_embeds": null)", R"("num_class_embeds": 10)", "'num_class_embeds' is set"},
      {R"("encoder_hid_dim": null)", R"("encoder_hid_dim": 64)", "'encoder_hid_dim' is set"},
      {R"("time_cond_proj_dim": null)", R"("time_cond_proj_dim": 256)", "'time_cond_proj_dim' is set"},
      {R"("dual_cross_attention": false)", R"("dual_cross_attention": true)",
       "'dual_cross_attention' is true"},
      {R"("only_cross_attention": false)", R"("only_cross_attention": [false, true])",
       "'only_cross_attention[1]' is true"},
      {R"("resnet_time_scale_shift": "default")", R"("resnet_time_scale_shift": "scale_shift")",
       "'resnet_time_scale_shift' is 'scale_shift'; only 'default'"},
      {R"("attention_type": "default")", R"("attention_type": "gated")", "'attention_type' is 'gated'"},
      {R"("act_fn": "silu")", R"("act_fn": "mish")", "'act_fn' is 'mish'"},
      {R"("conv_in_kernel": 3)", R"("conv_in_kernel": 1)", "'conv_in_kernel' is 1; only 3"},
      {R"("downsample_padding": 1)", R"("downsample_padding": 0)", "'downsample_padding' is 0; only 1"},
      {R"("norm_num_groups": 4)", R"("norm_num_groups": null)", "'norm_num_groups' is null"},
      {R"("norm_num_groups": 4)", R"("norm_num_groups": 3)",
       "norm_num_groups 3 does not divide block_out_channels 8"},
      {R"("attention_head_dim": 2)", R"("attention_head_dim": 3)",
       "attention_head_dim 3 does not divide block_out_channels 8"},
      {R"("attention_head_dim": 2)", R"("attention_head_dim": [2, 2, 2])",
       "'attention_head_dim' has 3 entries"},
      {R"("num_attention_heads": null)", R"("num_attention_heads": 4)", ""},
      {R"("transformer_layers_per_block": 1)", R"("transformer_layers_per_block": [[1], 1])",
       "'transformer_layers_per_block[0]' is a list"},
      {R"("mid_block_type": "UNetMidBlock2DCrossAttn")", R"("mid_block_type": "UNetMidBlock2D")",
       "'mid_block_type' is 'UNetMidBlock2D'"},
      {R"("mid_block_type": "UNetMidBlock2DCrossAttn")", R"("mid_block_type": null)", ""},
      {R"("UpBlock2D",)", R"("CrossAttnUpBlock2D",)",
       "'up_block_types[0]' does not mirror down_block_types[1]"},
      {R"("DownBlock2D")", R"("AttnDownBlock2D")", "'down_block_types[1]' is 'AttnDownBlock2D'; known"},
      {R"("cross_attention_dim": 32)", R"("cross_attention_dim": [32, 48])", "'cross_attention_dim' differs"},
      {R"("cross_attention_dim": 32)", R"("cross_attention_dim": [32, 32])", ""},
      {R"("layers_per_block": 1)", R"("layers_per_block": [1, 2])", ""},
      {R"("layers_per_block": 1)", R"("layers_per_block": -1)", "'layers_per_block' is -1, expected 1 to"},
      {R"("time_embedding_dim": null)", R"("time_embedding_dim": 64)", "'time_embedding_dim' is 64"},
      {R"("addition_embed_type": null)", R"("addition_embed_type": "image")",
       "'addition_embed_type' is 'image'"},
      {R"("addition_embed_type": null)", R"("addition_embed_type": "text_time")",
       "'addition_time_embed_dim' is null"},
  };
  for (const Change& change : changes) {
    std::string text = config_text("sd15");
    const auto at = text.find(change.from);
    ASSERT_NE(at, std::string::npos) << change.from;
    text.replace(at, std::strlen(change.from), change.to);
    std::string problem;
    try {
      read(text);
    } catch (const core::DataError& error) {
      problem = error.what();
    }
    if (*change.problem)
      EXPECT_THAT(problem, testing::HasSubstr(change.problem)) << change.to;
    else
      EXPECT_EQ(problem, "") << change.to;
  }
}

// The figure that everybody measures for a step at 512 x 512 is 339 billion multiplications and sums, without
// the products between queries, keys and values.
TEST(UNetCost, StableDiffusion15HasTheKnownFlops) {
  const UNet2D unet(read(kStableDiffusion15));
  const auto attention = [](double pixels, double width) { return 2 * pixels * (pixels + 77) * width; };
  const double products =
      5 * (attention(4096, 320) + attention(1024, 640) + attention(256, 1280)) + attention(64, 1280);
  EXPECT_NEAR((unet.flops(64, 64, 77) / 2 - products) / 1e9, 339, 2);
}

TEST(UNetCost, StableDiffusion15HasTheKnownParameters) {
  UNet2D unet(read(kStableDiffusion15));
  EXPECT_EQ(unet.parameter_count(), 859'520'964u);
}

// Counts what tensors hold.
class CountingAllocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    auto* place = new Place{c10::GetDefaultCPUAllocator()->allocate(bytes), bytes, this};
    now_ += bytes;
    most_ = std::max(most_, now_);
    return {place->memory.get(), place, &give_back, c10::DeviceType::CPU};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  void start() { most_ = start_ = now_; }
  double most_since_start() const { return static_cast<double>(most_ - start_); }

 private:
  struct Place {
    c10::DataPtr memory;
    std::size_t bytes;
    CountingAllocator* owner;
  };
  static void give_back(void* context) {
    const std::unique_ptr<Place> place(static_cast<Place*>(context));
    place->owner->now_ -= place->bytes;
  }
  std::size_t now_ = 0, most_ = 0, start_ = 0;
};

TEST(UNetCost, ActivationBytesAreThoseOfAStep) {
  if (!nn::kernels::cpu_kernels()) GTEST_SKIP() << "LibTorch's kernels need memory of their own";
  static CountingAllocator counting;  // tensors may outlive the test
  nn::use_one_thread();
  const c10::NoGradGuard no_graph;
  UNet2DConfig config = read(kStableDiffusion15);
  config.channels = {32, 64, 96, 96};
  UNet2D unet(config);
  unet.visit_parameters([](const std::string&, nn::Parameter& parameter) {
    parameter.value = at::randn(parameter.sizes()) * 0.1;
  });
  unet.prepare({.dtype = c10::ScalarType::BFloat16});
  const UNetCondition condition = unet.condition(at::randn({1, 77, config.cross_width}), {});
  for (const auto& [height, width] : {std::pair{64, 64}, std::pair{32, 96}}) {
    const at::Tensor latents = at::randn({1, 4, height, width}), timesteps = at::full({1}, 500.0);
    c10::Allocator* before = c10::GetCPUAllocator();
    c10::SetCPUAllocator(&counting, 1);
    counting.start();
    unet.forward(latents, timesteps, condition);
    c10::SetCPUAllocator(before, 1);
    const double ratio = unet.activation_bytes(height, width, 2) / counting.most_since_start();
    fmt::print("{} x {}: planned {:.2f} times what a step holds\n", height, width, ratio);
    EXPECT_GT(ratio, 0.9);
    EXPECT_LT(ratio, 1.6);
  }
}

}  // namespace
}  // namespace muster::models
