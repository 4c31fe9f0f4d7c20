// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>

#include "muster/models/unet2d.h"

namespace muster::diffusion {

/// What the rows of a UNet batch are conditioned on, fp32: with guidance the negative prompts' rows first.
struct ConditionRows {
  at::Tensor hidden;       ///< [rows, tokens, width]
  at::Tensor text_embeds;  ///< [rows, projection]; undefined for SD
  at::Tensor time_ids;     ///< [rows, 6]; undefined for SD
  std::int64_t rows() const { return hidden.size(0); }
  ConditionRows narrow(std::int64_t first, std::int64_t count) const;
};

/// Computes the UNet for the rows of one batch, a step at a time.
class UNetRows {
 public:
  virtual ~UNetRows() = default;
  /// `latents` fp32 [rows, channels, h, w], as the model reads them -> fp32, contiguous.
  virtual at::Tensor forward(const at::Tensor& latents, float time) = 0;
};

/// On this rank's device. A row's keys and values are computed from that row alone, once for all steps.
class LocalUNetRows final : public UNetRows {
 public:
  LocalUNetRows(std::shared_ptr<const models::UNet2D> unet, const ConditionRows& rows);
  at::Tensor forward(const at::Tensor& latents, float time) override;

 private:
  std::shared_ptr<const models::UNet2D> unet_;
  models::UNetCondition condition_;
};

}  // namespace muster::diffusion
