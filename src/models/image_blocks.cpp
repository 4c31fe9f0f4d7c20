// SPDX-License-Identifier: Apache-2.0
#include "models/image_blocks.h"

namespace muster::models {
namespace {

constexpr nn::ConvShape kPointwise{.kernel = 1, .stride = 1, .padding = 0};

}  // namespace

ResnetBlock::ResnetBlock(const ResnetConfig& config)
    : norm1_(config.groups, config.in, config.epsilon),
      norm2_(config.groups, config.out, config.epsilon),
      conv1_(config.in, config.out),
      conv2_(config.out, config.out) {
  add_child("norm1", norm1_);
  add_child("conv1", conv1_);
  if (config.time_width.size > 0) {
    time_ = std::make_unique<nn::Linear>(config.time_width, config.out);
    add_child("time_emb_proj", *time_);
  }
  add_child("norm2", norm2_);
  add_child("conv2", conv2_);
  if (config.in.size != config.out.size) {
    shortcut_ = std::make_unique<nn::Conv2d>(config.in, config.out, kPointwise);
    add_child("conv_shortcut", *shortcut_);
  }
}

at::Tensor ResnetBlock::forward(const at::Tensor& x, const at::Tensor& time) const {
  const at::Tensor shift = time_ ? time_->apply(time) : at::Tensor();  // [n, channels]
  const at::Tensor hidden = conv1_.forward(norm1_.forward(x, nn::Activation::kSilu), shift);
  return conv2_.forward_add(norm2_.forward(hidden, nn::Activation::kSilu),
                            shortcut_ ? shortcut_->forward(x) : x);
}

double conv_flops(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t height,
                  std::int64_t width) {
  return 2.0 * static_cast<double>(in) * static_cast<double>(out) * static_cast<double>(kernel * kernel) *
         static_cast<double>(height) * static_cast<double>(width);
}

double resnet_flops(std::int64_t in, std::int64_t out, std::int64_t height, std::int64_t width) {
  return conv_flops(in, out, 3, height, width) + conv_flops(out, out, 3, height, width) +
         (in == out ? 0 : conv_flops(in, out, 1, height, width));
}

double attention_flops(std::int64_t queries, std::int64_t keys, std::int64_t channels) {
  return 4.0 * static_cast<double>(queries) * static_cast<double>(keys) * static_cast<double>(channels);
}

}  // namespace muster::models
