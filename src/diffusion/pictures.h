// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "muster/diffusion/text_to_image.h"
#include "muster/models/autoencoder_kl.h"

namespace muster::diffusion {

/// A picture in [-1, 1], fp32 [3, H, W] on the host, as bytes: clamped, rounded half to even.
std::vector<std::uint8_t> to_bytes(const at::Tensor& picture);

/// The largest value of a black picture, and the widest range of a channel in a flat one. A real picture's
/// noise alone is wider; what overflow leaves behind is exactly one colour.
constexpr int kBlackLevel = 4, kFlatRange = 4;

/// What is wrong with a picture. `values` are those `rgb` was made of.
Verdict judge(const at::Tensor& values, const std::vector<std::uint8_t>& rgb);

/// Latents as the sampler leaves them to pictures: scaled back, decoded, in tiles above `tile` picture
/// pixels.
at::Tensor decode(const models::AutoencoderKL& vae, const at::Tensor& latents, std::uint32_t tile);

}  // namespace muster::diffusion
