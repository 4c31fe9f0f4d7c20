// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <span>

#include "muster/diffusion/text_to_image.h"

namespace muster::diffusion {

/// Whether a request asks for guidance (Ho and Salimans, 2022): rows for the negative prompt, too.
bool is_guided(const PictureRequest& request);

/// `output` is fp32 [2n, ...], the negative prompts' half first -> [n, ...], each item with its own scale and
/// rescale; all of an item's arithmetic is its own.
at::Tensor guide(const at::Tensor& output, std::span<const PictureRequest> requests);

}  // namespace muster::diffusion
