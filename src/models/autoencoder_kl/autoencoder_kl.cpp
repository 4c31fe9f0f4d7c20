// SPDX-License-Identifier: Apache-2.0
#include "muster/models/autoencoder_kl.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>

#include "models/autoencoder_kl/coders.h"
#include "muster/core/error.h"

namespace muster::models {
namespace {

constexpr nn::ConvShape kPointwise{.kernel = 1, .stride = 1, .padding = 0};
constexpr std::int64_t kHeight = 2, kWidth = 3;  // dimensions

/// Fades from the end of `before` into the beginning of `tile` along a dimension, over `extent` pixels or
/// what both have.
void blend(const at::Tensor& before, at::Tensor& tile, std::int64_t dimension, std::int64_t extent) {
  extent = std::min({extent, before.size(dimension), tile.size(dimension)});
  std::vector<std::int64_t> shape{1, 1, 1, 1};
  shape[static_cast<std::size_t>(dimension)] = extent;
  const at::Tensor weight = (at::arange(extent, tile.options()) / static_cast<double>(extent)).view(shape);
  at::Tensor start = tile.narrow(dimension, 0, extent);
  const at::Tensor end = before.narrow(dimension, before.size(dimension) - extent, extent);
  start.copy_(end * (1 - weight) + start * weight);
}

}  // namespace

struct AutoencoderKL::Impl {
  AutoencoderKLConfig config;
  std::unique_ptr<AutoencoderEncoder> encoder;
  std::unique_ptr<AutoencoderDecoder> decoder;
  std::unique_ptr<nn::Conv2d> quant, post_quant;
  std::optional<nn::ComputeTarget> target;  // when prepared

  at::Tensor input(const at::Tensor& x) const {
    return (target ? x.to(target->device, target->dtype) : x).contiguous(at::MemoryFormat::ChannelsLast);
  }

  at::Tensor decode(const at::Tensor& latents) const {
    const at::Tensor x = input(latents);
    return decoder->forward(post_quant ? post_quant->forward(x) : x).to(c10::ScalarType::Float);
  }
};

AutoencoderKL::AutoencoderKL(const AutoencoderKLConfig& config, AutoencoderParts parts)
    : impl_(std::make_unique<Impl>()) {
  impl_->config = config;
  const nn::Extent latent{config.latent_channels, "latent_channels"};
  const nn::Extent moments{2 * config.latent_channels, "latent_channels"};
  if (parts == AutoencoderParts::kBoth) {
    impl_->encoder = std::make_unique<AutoencoderEncoder>(config);
    add_child("encoder", *impl_->encoder);
  }
  impl_->decoder = std::make_unique<AutoencoderDecoder>(config);
  add_child("decoder", *impl_->decoder);
  if (config.quant_conv && parts == AutoencoderParts::kBoth) {
    impl_->quant = std::make_unique<nn::Conv2d>(moments, moments, kPointwise);
    add_child("quant_conv", *impl_->quant);
  }
  if (config.post_quant_conv) {
    impl_->post_quant = std::make_unique<nn::Conv2d>(latent, latent, kPointwise);
    add_child("post_quant_conv", *impl_->post_quant);
  }
}

AutoencoderKL::~AutoencoderKL() = default;

const AutoencoderKLConfig& AutoencoderKL::config() const {
  return impl_->config;
}

void AutoencoderKL::on_prepare(const nn::ComputeTarget& target) {
  impl_->target = target;
}

at::Tensor AutoencoderKL::encode(const at::Tensor& pictures) const {
  core::internal_check(impl_->encoder != nullptr, "pictures are encoded by an autoencoder with both parts");
  const at::Tensor made = impl_->encoder->forward(impl_->input(pictures));
  const auto moments = (impl_->quant ? impl_->quant->forward(made) : made).to(c10::ScalarType::Float);
  const auto halves = moments.chunk(2, 1);
  return at::cat({halves[0], halves[1].clamp(-30.0, 20.0)}, 1);
}

at::Tensor AutoencoderKL::decode(const at::Tensor& latents) const {
  // Activations are large beside the weights: on the CPU one picture at a time stays nearer to the caches.
  if (!impl_->target || impl_->target->device.type() != c10::DeviceType::CPU || latents.size(0) == 1)
    return impl_->decode(latents);
  std::vector<at::Tensor> pictures;
  for (std::int64_t i = 0; i < latents.size(0); ++i)
    pictures.push_back(impl_->decode(latents.narrow(0, i, 1)));
  return at::cat(pictures);
}

at::Tensor AutoencoderKL::decode_tiled(const at::Tensor& latents, std::int64_t tile) const {
  const std::int64_t height = latents.size(kHeight), width = latents.size(kWidth);
  if (std::max(height, width) <= tile) return decode(latents);
  core::internal_check(tile >= 2, "tiles of latents overlap, so they have two pixels a side at least");
  const std::int64_t factor = impl_->config.factor();
  const std::int64_t step = tile - std::max<std::int64_t>(tile / 4, 1);
  const std::int64_t overlap = (tile - step) * factor, kept = step * factor;
  at::Tensor out;
  std::vector<at::Tensor> above, row;  // tiles, blended
  for (std::int64_t y = 0; y < height; y += step, above = std::move(row)) {
    row.clear();
    for (std::int64_t x = 0; x < width; x += step) {
      at::Tensor decoded = decode(latents.narrow(kHeight, y, std::min(tile, height - y))
                                      .narrow(kWidth, x, std::min(tile, width - x)));
      if (y > 0) blend(above[row.size()], decoded, kHeight, overlap);
      if (x > 0) blend(row.back(), decoded, kWidth, overlap);
      row.push_back(decoded);
      if (!out.defined())
        out =
            at::empty({latents.size(0), decoded.size(1), height * factor, width * factor}, decoded.options());
      const std::int64_t rows = std::min(kept, decoded.size(kHeight));
      const std::int64_t columns = std::min(kept, decoded.size(kWidth));
      out.narrow(kHeight, y * factor, rows)
          .narrow(kWidth, x * factor, columns)
          .copy_(decoded.narrow(kHeight, 0, rows).narrow(kWidth, 0, columns));
    }
  }
  return out;
}

}  // namespace muster::models
