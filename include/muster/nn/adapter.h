// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace muster::nn {

/// What a DoRA magnitude belongs to: an output (peft), or an input channel as in the first files that LyCORIS
/// wrote.
enum class MagnitudeOf : std::uint8_t { kOutputs, kInputs };

/// A low-rank change of a layer's weight (LoRA, Hu et al., 2021): W' = W + scale * up down, with the weight
/// seen as [out, in * kernel * kernel]. With a magnitude it is DoRA (Liu et al., 2024): W'' = magnitude * W'
/// / |W'|, the norm taken over each output's inputs (or over each input channel's outputs and pixels). All
/// fp32 on the host.
struct LowRank {
  at::Tensor down;       ///< [rank, in] or [rank, in, kernel, kernel]
  at::Tensor up;         ///< [out, rank] or [out, rank, 1, 1]
  at::Tensor magnitude;  ///< [out] or [in], or undefined: LoRA
  double scale = 1;      ///< alpha / rank times the user's own
  MagnitudeOf magnitude_of = MagnitudeOf::kOutputs;
};

/// Why a change does not fit a weight of these sizes; empty when it does.
std::string misfit(const LowRank& adapter, std::span<const std::int64_t> weight_shape);

/// The weight with the changes, in fp32, in its own shape. They are made one after another, as peft has it: a
/// DoRA's factor multiplies what is there before it, and its norm is that of the original weight with its own
/// change alone. DataError when shapes do not fit.
at::Tensor merged(const at::Tensor& weight, std::span<const LowRank> adapters);
at::Tensor merged(const at::Tensor& weight, const LowRank& adapter);

/// A layer to which adapters can be attached: before prepare(); they are applied live, beside the weight as
/// it is. (Merging instead is done to the loaded weights, by models.)
class Adaptable {
 public:
  virtual ~Adaptable() = default;
  virtual std::vector<std::int64_t> weight_shape() const = 0;
  virtual void attach(LowRank adapter) = 0;
};

}  // namespace muster::nn
