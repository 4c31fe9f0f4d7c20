// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "muster/nn/attention.h"

/// Differentiable layers over packed texts: what a model's training forward is written with. Every function
/// takes and returns tensors of LibTorch's autograd; where it pays, forward and backward are kernels of our
/// own. A text's values and its part of a gradient do not depend on the other texts of the call; sums over
/// rows run in one order on one thread. On devices other than the CPU everything is ATen.
namespace muster::nn::trainable {

/// The texts of a micro-batch, one after another without padding.
struct Texts {
  std::vector<std::uint32_t> lengths;  ///< tokens of each
  std::vector<std::uint64_t> items;    ///< number of each in the data set: random decisions are keyed by it
  std::vector<SequenceRun> runs;       ///< neighbours of equal length
  std::int64_t rows = 0;               ///< tokens of all
};

/// The random decisions of one step. Whether an element is dropped is a function of (seed, step, item, site,
/// element within the text) alone (Philox), so it does not depend on ranks, slots or the other texts. That is
/// on the CPU; elsewhere masks are LibTorch's, its generator seeded by (seed, step, site, first item) for
/// each.
struct Randomness {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
};

/// One place in a model where elements are dropped, and how many; kept ones are scaled by 1 / (1 -
/// probability) (Srivastava et al., 2014).
struct Dropout {
  double probability = 0;  ///< 0: nothing happens
  std::uint32_t site = 0;  ///< its number in the model
  Randomness randomness;
  std::shared_ptr<const Texts> texts;
};

/// x W^T + b: [rows, in], [out, in], [out] or undefined -> [rows, out].
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
/// Several linear layers of one input, side by side: -> [rows, sum of out].
at::Tensor linears(const at::Tensor& x, std::span<const at::Tensor> weights,
                   std::span<const at::Tensor> biases);
/// linear() and an exact GELU behind it, whose input is kept for backward.
at::Tensor linear_gelu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
/// Rows of `table` [entries, width] at int64 `indices` [rows].
at::Tensor embed(const at::Tensor& table, const at::Tensor& indices);
/// [rows, width]; an element's number within its text counts row by row.
at::Tensor drop(const at::Tensor& x, const Dropout& dropout);
/// Every text attends to itself alone: `qkv` [rows, 3 * heads * width], query, key, value side by side, ->
/// [rows, heads * width]. `distance_bias` is fp32 [heads, 2n - 1], distance key - query = 1 - n first, or
/// undefined; it is differentiated too. The probabilities are dropped.
at::Tensor attend(const at::Tensor& qkv, const HeadShape& shape, const at::Tensor& distance_bias,
                  const Dropout& dropout);
/// norm(drop(x) + residual) * weight + bias over the last dimension, statistics in fp32; `residual` may be
/// undefined.
struct NormParameters {
  at::Tensor weight, bias;
  double epsilon = 1e-12;
};
at::Tensor add_norm(const at::Tensor& x, const at::Tensor& residual, const NormParameters& norm,
                    const Dropout& dropout);
/// Runs `layer` without keeping its insides and once more in backward (Chen et al., 2016). `layer` is a pure
/// function of its input and of leaf tensors that require gradients, which it may capture: their gradients
/// arrive as if it had run once.
at::Tensor checkpointed(const std::function<at::Tensor(const at::Tensor&)>& layer, const at::Tensor& x);

enum class Reduction { kSum, kMean };
/// Weighted, masked binary cross entropy with logits (sum over texts and classes of weight * BCE), or its
/// focal form (Lin et al., 2017: (1 - p_t)^gamma); fp32 throughout. `scale` multiplies everything: 1 / (texts
/// * classes of the whole batch) for a mean, the loss scale for fp16.
struct LossConfig {
  double focal_gamma = 0;      ///< 0: plain
  double positive_weight = 1;  ///< factor of the positive term
  double positive_target = 1;  ///< target of positives; 0.9 smooths
};
at::Tensor classification_loss(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights,
                               double scale, const LossConfig& config);

/// Backward from `loss`. `ready` is called once for every leaf, in the order in which gradients become final,
/// on the calling thread: on the CPU while backward goes on, elsewhere after all of it is queued. Leaves that
/// the loss does not depend on come last, with an undefined tensor. Leaves keep no
/// gradient afterwards.
void backward(const at::Tensor& loss, std::span<const at::Tensor> leaves,
              const std::function<void(std::size_t leaf, const at::Tensor& gradient)>& ready);

}  // namespace muster::nn::trainable
