// SPDX-License-Identifier: Apache-2.0
#include "muster/models/unet2d.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include <utility>

#include "models/unet2d/blocks.h"
#include "models/unet2d/cost.h"
#include "muster/core/error.h"
#include "muster/nn/upsampled_conv.h"

namespace muster::models {

using unet2d::AttentionShape;
using unet2d::EmbeddingMlp;
using unet2d::SpatialTransformer;

namespace {

constexpr std::string_view kChannelsKey = "block_out_channels";
constexpr nn::ConvShape kHalve{.kernel = 3, .stride = 2, .padding = 1};

using Skips = std::vector<at::Tensor>;

// The blocks of one size, on the way down or up.
struct Level {
  std::vector<std::unique_ptr<ResnetBlock>> resnets;
  std::vector<std::unique_ptr<SpatialTransformer>> attentions;  // behind each, or none
  std::unique_ptr<nn::Conv2d> halve;                            // on the way down
  std::unique_ptr<nn::UpsampledConv2d> enlarge;                 // on the way up
};

// What all blocks of a step read, and how far they have read it.
struct Step {
  at::Tensor time;  // [n, time width], behind its activation
  const UNetCondition& condition;
  std::size_t layer = 0;

  at::Tensor run(const Level& level, std::size_t i, const at::Tensor& x) {
    const at::Tensor hidden = level.resnets[i]->forward(x, time);
    return level.attentions.empty() ? hidden : level.attentions[i]->forward(hidden, condition, layer);
  }
};

}  // namespace

struct UNet2D::Impl {
  explicit Impl(const UNet2DConfig& unet);
  at::Tensor embed_time(const at::Tensor& timesteps, const at::Tensor& added) const;
  at::Tensor go_down(at::Tensor x, Step& step, Skips& skips) const;
  at::Tensor go_up(at::Tensor x, Step& step, Skips& skips) const;
  c10::ScalarType dtype() const;

  UNet2DConfig config;
  nn::Conv2d conv_in;
  EmbeddingMlp time_embedding;
  std::unique_ptr<EmbeddingMlp> add_embedding;
  std::vector<Level> down, up;
  Level mid;  // empty without one
  nn::GroupNorm norm_out;
  nn::Conv2d conv_out;
  std::optional<nn::ComputeTarget> target;  // once prepared
};

namespace {

// Makes levels and names their layers as diffusers does.
struct Builder {
  const UNet2DConfig& config;

  nn::Extent channels(std::size_t block) const { return {config.channels[block], kChannelsKey}; }

  void add(Level& level, std::pair<nn::Extent, nn::Extent> in_out, std::int64_t heads,
           std::int64_t transformers) const {
    const auto [in, out] = in_out;
    level.resnets.push_back(std::make_unique<ResnetBlock>(
        ResnetConfig{in, out, config.norm_groups, config.norm_epsilon, {config.time_width(), kChannelsKey}}));
    if (transformers == 0) return;
    const AttentionShape shape{out, {config.cross_width, "cross_attention_dim"}, heads};
    level.attentions.push_back(std::make_unique<SpatialTransformer>(config, shape, transformers));
  }

  // `skips`: channels of what the way down leaves behind.
  std::vector<Level> down(std::vector<nn::Extent>& skips) const {
    std::vector<Level> levels(config.channels.size());
    nn::Extent now = channels(0);
    skips.push_back(now);
    for (std::size_t block = 0; block < levels.size(); ++block) {
      for (std::int64_t i = 0; i < config.layers[block]; ++i) {
        add(levels[block], {now, channels(block)}, config.heads[block], config.transformers[block]);
        now = channels(block);
        skips.push_back(now);
      }
      if (block + 1 == levels.size()) continue;
      levels[block].halve = std::make_unique<nn::Conv2d>(now, now, kHalve);
      skips.push_back(now);
    }
    return levels;
  }

  Level mid() const {
    Level level;
    const nn::Extent width = channels(config.channels.size() - 1);
    if (config.mid_transformers == 0) return level;
    add(level, {width, width}, config.heads.back(), config.mid_transformers);
    add(level, {width, width}, 1, 0);
    return level;
  }

  std::vector<Level> up(std::vector<nn::Extent>& skips) const {
    std::vector<Level> levels(config.channels.size());
    nn::Extent now = channels(config.channels.size() - 1);
    for (std::size_t i = 0; i < levels.size(); ++i) {
      const std::size_t block = levels.size() - 1 - i;
      for (std::int64_t layer = 0; layer <= config.layers[block]; ++layer) {
        const nn::Extent joined{now.size + skips.back().size, kChannelsKey};
        add(levels[i], {joined, channels(block)}, config.heads[block], config.transformers[block]);
        now = channels(block);
        skips.pop_back();
      }
      if (block > 0)
        levels[i].enlarge = std::make_unique<nn::UpsampledConv2d>(now, now, nn::Enlargement::kAny);
    }
    return levels;
  }
};

}  // namespace

UNet2D::Impl::Impl(const UNet2DConfig& unet)
    : config(unet),
      conv_in({unet.in_channels, "in_channels"}, {unet.channels.front(), kChannelsKey}),
      time_embedding({unet.channels.front(), kChannelsKey}, {unet.time_width(), kChannelsKey}),
      norm_out(unet.norm_groups, {unet.channels.front(), kChannelsKey}, unet.norm_epsilon),
      conv_out({unet.channels.front(), kChannelsKey}, {unet.out_channels, "out_channels"}) {
  if (unet.added_projection_width > 0)
    add_embedding = std::make_unique<EmbeddingMlp>(
        nn::Extent{unet.added_projection_width, "projection_class_embeddings_input_dim"},
        nn::Extent{unet.time_width(), kChannelsKey});
  const Builder build{config};
  std::vector<nn::Extent> skips;
  down = build.down(skips);
  mid = build.mid();
  up = build.up(skips);
}

UNet2D::UNet2D(const UNet2DConfig& config) : impl_(std::make_unique<Impl>(config)) {
  const auto add_level = [&](const std::string& name, Level& level) {
    for (std::size_t i = 0; i < level.resnets.size(); ++i)
      add_child(fmt::format("{}.resnets.{}", name, i), *level.resnets[i]);
    for (std::size_t i = 0; i < level.attentions.size(); ++i)
      add_child(fmt::format("{}.attentions.{}", name, i), *level.attentions[i]);
    if (level.halve) add_child(name + ".downsamplers.0.conv", *level.halve);
    if (level.enlarge) add_child(name + ".upsamplers.0.conv", *level.enlarge);
  };
  add_child("conv_in", impl_->conv_in);
  add_child("time_embedding", impl_->time_embedding);
  if (impl_->add_embedding) add_child("add_embedding", *impl_->add_embedding);
  for (std::size_t i = 0; i < impl_->down.size(); ++i)
    add_level(fmt::format("down_blocks.{}", i), impl_->down[i]);
  add_level("mid_block", impl_->mid);
  for (std::size_t i = 0; i < impl_->up.size(); ++i) add_level(fmt::format("up_blocks.{}", i), impl_->up[i]);
  add_child("conv_norm_out", impl_->norm_out);
  add_child("conv_out", impl_->conv_out);
}

UNet2D::~UNet2D() = default;

void UNet2D::on_prepare(const nn::ComputeTarget& target) {
  impl_->target = target;
}

const UNet2DConfig& UNet2D::config() const {
  return impl_->config;
}

c10::ScalarType UNet2D::Impl::dtype() const {
  return target ? target->dtype : conv_in.weight_value().scalar_type();
}

UNetCondition UNet2D::condition(const at::Tensor& hidden, const UNetAdded& added) const {
  const auto dtype = impl_->dtype();
  UNetCondition condition;
  const at::Tensor text = hidden.to(dtype);
  const auto add = [&](const Level& level) {
    for (const auto& attention : level.attentions) attention->add_keys_and_values(text, condition);
  };
  for (const Level& level : impl_->down) add(level);
  add(impl_->mid);
  for (const Level& level : impl_->up) add(level);
  core::internal_check(added.time_ids.defined() == (impl_->add_embedding != nullptr),
                       "SDXL has added conditions, SD has none");
  if (!impl_->add_embedding) return condition;
  const std::int64_t samples = added.time_ids.size(0);
  const at::Tensor ids = unet2d::sinusoids(added.time_ids.to(hidden.device()).flatten(),
                                           impl_->config.time_ids_width, impl_->config)
                             .view({samples, -1});
  condition.added = impl_->add_embedding->forward(
      at::cat({added.text_embeds.to(hidden.device(), dtype), ids.to(dtype)}, 1));
  return condition;
}

at::Tensor UNet2D::Impl::embed_time(const at::Tensor& timesteps, const at::Tensor& added) const {
  const at::Tensor angles = unet2d::sinusoids(timesteps, config.channels.front(), config);
  const at::Tensor embedded = time_embedding.forward(angles.to(dtype()));
  return nn::activate_each(added.defined() ? embedded + added : embedded, nn::Activation::kSilu);
}

at::Tensor UNet2D::Impl::go_down(at::Tensor x, Step& step, Skips& skips) const {
  skips.push_back(x);
  for (const Level& level : down) {
    for (std::size_t i = 0; i < level.resnets.size(); ++i) {
      x = step.run(level, i, x);
      skips.push_back(x);
    }
    if (!level.halve) continue;
    x = level.halve->forward(x);
    skips.push_back(x);
  }
  return x;
}

at::Tensor UNet2D::Impl::go_up(at::Tensor x, Step& step, Skips& skips) const {
  for (const Level& level : up) {
    for (std::size_t i = 0; i < level.resnets.size(); ++i) {
      x = step.run(level, i, at::cat({x, skips.back()}, 1));
      skips.pop_back();
    }
    if (!level.enlarge) continue;
    const at::Tensor& next = skips.back();  // a size that was odd is not twice its half
    x = level.enlarge->enlarge(x, next.size(2), next.size(3));
  }
  return x;
}

at::Tensor UNet2D::forward(const at::Tensor& latents, const at::Tensor& timesteps,
                           const UNetCondition& condition) const {
  const Impl& net = *impl_;
  core::internal_check(condition.rows() == latents.size(0) && timesteps.size(0) == latents.size(0),
                       "a UNet's latents, timesteps and condition have as many rows");
  const at::Tensor input = latents.to(net.dtype()).contiguous(at::MemoryFormat::ChannelsLast);
  Step step{net.embed_time(timesteps.to(latents.device()), condition.added), condition};
  Skips skips;
  at::Tensor x = net.go_down(net.conv_in.forward(input), step, skips);
  for (std::size_t i = 0; i < net.mid.resnets.size(); ++i) {
    x = net.mid.resnets[i]->forward(x, step.time);
    if (i == 0) x = net.mid.attentions[0]->forward(x, condition, step.layer);
  }
  x = net.go_up(x, step, skips);
  return net.conv_out.forward(net.norm_out.forward(x, nn::Activation::kSilu))
      .to(c10::ScalarType::Float)
      .contiguous();
}

double UNet2D::flops(std::int64_t height, std::int64_t width, std::int64_t tokens) const {
  return unet2d::step_flops(impl_->config, {height, width}, tokens);
}

double UNet2D::activation_bytes(std::int64_t height, std::int64_t width, std::int64_t element) const {
  return unet2d::activation_elements(impl_->config, {height, width}) * static_cast<double>(element);
}

std::int64_t UNetCondition::rows() const {
  return keys.empty() ? (added.defined() ? added.size(0) : 0) : keys.front().size(0);
}

UNetCondition UNetCondition::narrow(std::int64_t first, std::int64_t count) const {
  UNetCondition part;
  for (const at::Tensor& key : keys) part.keys.push_back(key.narrow(0, first, count));
  for (const at::Tensor& value : values) part.values.push_back(value.narrow(0, first, count));
  if (added.defined()) part.added = added.narrow(0, first, count);
  return part;
}

UNetCondition UNetCondition::join(const std::vector<UNetCondition>& parts) {
  const auto joined = [&](const auto& tensor_of) {
    std::vector<at::Tensor> tensors;
    for (const UNetCondition& part : parts) tensors.push_back(tensor_of(part));
    return at::cat(tensors);
  };
  UNetCondition whole;
  if (parts.empty()) return whole;
  for (std::size_t i = 0; i < parts.front().keys.size(); ++i) {
    whole.keys.push_back(joined([&](const UNetCondition& part) { return part.keys[i]; }));
    whole.values.push_back(joined([&](const UNetCondition& part) { return part.values[i]; }));
  }
  if (parts.front().added.defined())
    whole.added = joined([](const UNetCondition& part) { return part.added; });
  return whole;
}

}  // namespace muster::models
