// SPDX-License-Identifier: Apache-2.0
#include "diffusion/pictures.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <array>

namespace muster::diffusion {

// The reference adds, clamps and multiplies in fp32, and casts with numpy; so do these.
std::vector<std::uint8_t> to_bytes(const at::Tensor& picture) {
  const at::Tensor unit = (picture * 0.5 + 0.5).nan_to_num(0).clamp(0, 1);
  const at::Tensor bytes = (unit * 255).round().to(c10::ScalarType::Byte).permute({1, 2, 0}).contiguous();
  const auto* data = bytes.const_data_ptr<std::uint8_t>();
  return {data, data + bytes.numel()};
}

Verdict judge(const at::Tensor& values, const std::vector<std::uint8_t>& rgb) {
  if (!values.isfinite().all().item<bool>()) return Verdict::kNotFinite;
  std::array<int, 3> least{255, 255, 255}, most{};
  for (std::size_t i = 0; i < rgb.size(); ++i) {
    least[i % 3] = std::min<int>(least[i % 3], rgb[i]);
    most[i % 3] = std::max<int>(most[i % 3], rgb[i]);
  }
  if (*std::ranges::max_element(most) <= kBlackLevel) return Verdict::kBlack;
  for (std::size_t channel = 0; channel < 3; ++channel)
    if (most[channel] - least[channel] > kFlatRange) return Verdict::kGood;
  return Verdict::kFlat;
}

namespace {

// The pipelines' reference does not read shift_factor.
at::Tensor without_scale(const models::AutoencoderKLConfig& config, const at::Tensor& latents) {
  if (config.latents_mean.empty()) return latents / config.scaling_factor;
  const auto channels = [&](const std::vector<double>& values) {
    return at::tensor(values, latents.options()).view({1, -1, 1, 1});
  };
  return latents * channels(config.latents_std) / config.scaling_factor + channels(config.latents_mean);
}

}  // namespace

at::Tensor decode(const models::AutoencoderKL& vae, const at::Tensor& latents, std::uint32_t tile) {
  const models::AutoencoderKLConfig& config = vae.config();
  const at::Tensor unscaled = without_scale(config, latents);
  const std::int64_t factor = config.factor(), side = std::max(latents.size(2), latents.size(3)) * factor;
  if (tile == 0 || side <= tile) return vae.decode(unscaled);
  return vae.decode_tiled(unscaled, std::max<std::int64_t>(2, tile / factor));
}

}  // namespace muster::diffusion
