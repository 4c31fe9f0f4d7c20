// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/image_layers.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <utility>

#include "muster/core/error.h"
#include "nn/kernels/own_kernels.h"
#include "nn/kernels/packed_convolution.h"
#include "nn/live_adapters.h"
#include "nn/weight_home.h"

namespace muster::nn {
namespace {

constexpr auto kChannelsLast = at::MemoryFormat::ChannelsLast;

// On the CPU a library's result may depend on the other samples of a call, so each has its own.
template <typename Function>
at::Tensor each_sample(const at::Tensor& x, const Function& function) {
  if (x.size(0) == 1 || !x.device().is_cpu()) return function(x);
  std::vector<at::Tensor> results;
  for (std::int64_t i = 0; i < x.size(0); ++i) results.push_back(function(x.narrow(0, i, 1)));
  return at::cat(results);
}

at::Tensor moved(const at::Tensor& x, const ComputeTarget& target) {
  return x.to(target.device, target.dtype, /*non_blocking=*/false, /*copy=*/true);
}

}  // namespace

Conv2d::Conv2d(Extent in, Extent out, ConvShape shape) : shape_(shape) {
  const Extent kernel{shape.kernel, ""};
  weight_ = &add_parameter("weight", {out, in, kernel, kernel});
  bias_ = &add_parameter("bias", {out});
}

void Conv2d::attach(LowRank adapter) {
  core::internal_check(!prepared(), "adapters are attached before prepare()");
  adapters_.push_back(std::move(adapter));
}

at::Tensor Conv2d::convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) const {
  const std::optional<at::Tensor> added = bias.defined() ? std::optional(bias) : std::nullopt;
  return at::conv2d(x, weight, added, {shape_.stride, shape_.stride}, {shape_.padding, shape_.padding});
}

namespace {

// down [rank, in * kernel * kernel] as convolution weights, up [out, rank] likewise.
std::pair<at::Tensor, at::Tensor> adapter_weights(const LiveAdapters& live, const at::Tensor& weight) {
  return {live.down.view({-1, weight.size(1), weight.size(2), weight.size(3)}),
          live.up.unsqueeze(-1).unsqueeze(-1)};
}

}  // namespace

at::Tensor Conv2d::forward_training(const at::Tensor& x) const {
  const auto dtype = x.scalar_type();
  const at::Tensor bias = bias_->value.to(dtype);
  const at::Tensor pixels = x.contiguous(kChannelsLast);
  if (adapters_.empty()) return convolve(pixels, weight_->value.to(dtype), bias);
  const LiveAdapters live = combine(weight_->value, adapters_);
  const auto [down, up] = adapter_weights(live, weight_->value);
  return convolve(pixels, live.scaled(weight_->value).to(dtype), bias) +
         at::conv2d(convolve(pixels, down.to(dtype), {}), up.to(dtype));
}

at::Tensor Conv2d::forward_prepared(const at::Tensor& x, const at::Tensor& shift,
                                    const at::Tensor& residual) const {
  if (packed_) {
    if (!down_.defined()) return packed_->convolve(x, {shift, residual});
    at::Tensor low = each_sample(
        x, [&](const at::Tensor& sample) { return at::conv2d(convolve(sample, down_, {}), up_); });
    return packed_->convolve(x, {shift, residual.defined() ? low.add_(residual) : low});
  }
  at::Tensor y = each_sample(x.contiguous(kChannelsLast), [&](const at::Tensor& sample) {
    at::Tensor one = convolve(sample, fetched(weight_->value, sample), bias_->value);
    return down_.defined() ? one.add_(at::conv2d(convolve(sample, down_, {}), up_)) : one;
  });
  if (shift.defined()) y.add_(shift.unsqueeze(-1).unsqueeze(-1));
  return residual.defined() ? y.add_(residual) : y;
}

at::Tensor Conv2d::forward(const at::Tensor& x, const at::Tensor& shift) const {
  if (prepared()) return forward_prepared(x, shift, {});
  const at::Tensor y = forward_training(x);
  return shift.defined() ? y + shift.unsqueeze(-1).unsqueeze(-1) : y;
}

at::Tensor Conv2d::forward_add(const at::Tensor& x, const at::Tensor& residual) const {
  return prepared() ? forward_prepared(x, {}, residual) : forward_training(x) + residual;
}

void Conv2d::on_prepare(const ComputeTarget& target) {
  at::Tensor weight = weight_->value;
  if (!adapters_.empty()) {
    const LiveAdapters live = combine(weight, adapters_);
    const auto [down, up] = adapter_weights(live, weight);
    weight = live.scaled(weight);
    down_ = moved(down, target).contiguous(kChannelsLast);
    up_ = moved(up, target);
  }
  if (kernels::has_own_linear(target)) {
    packed_ = std::make_shared<const kernels::PackedConvolution>(weight, bias_->value, shape_);
    weight_->value.reset();
    bias_->value.reset();
    return;
  }
  weight_->value = at_home(moved(weight, target).contiguous(kChannelsLast), target);
  bias_->value = moved(bias_->value, target);
}

GroupNorm::GroupNorm(std::int64_t groups, Extent channels, double epsilon)
    : groups_(groups),
      epsilon_(epsilon),
      weight_(&add_parameter("weight", {channels})),
      bias_(&add_parameter("bias", {channels})) {}

at::Tensor GroupNorm::forward(const at::Tensor& x, Activation activation) const {
  if (own_kernel_) return forward_kernel(x, activation);
  const auto dtype = x.scalar_type();
  const at::Tensor weight = weight_->value.to(dtype), bias = bias_->value.to(dtype);
  const auto norm = [&](const at::Tensor& sample) {
    return activate(at::group_norm(sample, groups_, weight, bias, epsilon_), activation);
  };
  if (!prepared()) return norm(x);
  return each_sample(x, norm);
}

at::Tensor GroupNorm::forward_kernel(const at::Tensor& x, Activation activation) const {
  const at::Tensor pixels = x.contiguous(kChannelsLast);
  at::Tensor out = at::empty(x.sizes(), x.options(), kChannelsLast);
  at::Tensor scratch = at::empty({2 * x.size(1)}, c10::ScalarType::Double);
  const bool silu = activation == Activation::kSilu;
  const kernels::GroupNormShape shape{.pixels = x.size(2) * x.size(3),
                                      .channels = x.size(1),
                                      .groups = groups_,
                                      .epsilon = static_cast<float>(epsilon_),
                                      .gamma = weight_->value.const_data_ptr<float>(),
                                      .beta = bias_->value.const_data_ptr<float>(),
                                      .silu = silu};
  const kernels::CpuKernels& own = *kernels::cpu_kernels();
  auto* sums = scratch.mutable_data_ptr<double>();
  const std::int64_t sample = shape.pixels * shape.channels;
  for (std::int64_t i = 0; i < x.size(0); ++i)
    if (x.scalar_type() == c10::ScalarType::Float)
      own.group_norm_fp32(shape, pixels.const_data_ptr<float>() + i * sample,
                          out.mutable_data_ptr<float>() + i * sample, sums);
    else
      own.group_norm_bf16(
          shape, reinterpret_cast<const kernels::Bf16*>(pixels.const_data_ptr<c10::BFloat16>()) + i * sample,
          reinterpret_cast<kernels::Bf16*>(out.mutable_data_ptr<c10::BFloat16>()) + i * sample, sums);
  return silu ? out : activate_each(out, activation);
}

void GroupNorm::on_prepare(const ComputeTarget& target) {
  own_kernel_ = kernels::has_own_group_norm(target);
  const ComputeTarget exact{target.device, c10::ScalarType::Float};  // our kernel takes fp32 weights
  weight_->value = moved(weight_->value, own_kernel_ ? exact : target);
  bias_->value = moved(bias_->value, own_kernel_ ? exact : target);
}

at::Tensor to_rows(const at::Tensor& x) {
  return x.permute({0, 2, 3, 1}).reshape({x.size(0), x.size(2) * x.size(3), x.size(1)});
}

at::Tensor to_picture(const at::Tensor& rows, std::int64_t height, std::int64_t width) {
  return rows.view({rows.size(0), height, width, rows.size(2)}).permute({0, 3, 1, 2});
}

at::Tensor activate_each(const at::Tensor& x, Activation activation) {
  return each_sample(x, [&](const at::Tensor& sample) { return activate(sample, activation); });
}

at::Tensor upsample_nearest(const at::Tensor& x) {
  return upsample_nearest(x, 2 * x.size(2), 2 * x.size(3));
}

at::Tensor upsample_nearest(const at::Tensor& x, std::int64_t height, std::int64_t width) {
  return at::upsample_nearest2d(x, {height, width});
}

namespace {

// One sample: [tokens, heads * width] each, as memory has them.
void attend_by_kernel(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                      at::Tensor& out) {
  const std::int64_t width = q.size(1) / heads, keys = k.size(0);
  at::Tensor scratch = at::empty({kernels::attention_scratch_bytes(keys, width)}, c10::ScalarType::Byte);
  const kernels::OutputRows rows = kernels::output_rows(out);
  for (std::int64_t head = 0; head < heads; ++head)
    kernels::cpu_kernels()->attend_head({.query = kernels::input_rows(q).data + head * width,
                                         .key = kernels::input_rows(k).data + head * width,
                                         .value = kernels::input_rows(v).data + head * width,
                                         .stride = q.stride(0),
                                         .key_stride = k.stride(0),
                                         .length = q.size(0),
                                         .keys = keys,
                                         .width = width,
                                         .scale = 1.0f / std::sqrt(static_cast<float>(width))},
                                        {rows.data + head * width, rows.stride}, scratch.mutable_data_ptr());
}

bool has_kernel(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                Mask mask) {
  const bool graph =
      at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  return !graph && mask == Mask::kNone && q.size(2) / heads % 2 == 0 && q.stride(2) == 1 &&
         k.stride(2) == 1 && v.stride(2) == 1 && k.stride(1) == v.stride(1) &&
         kernels::has_own_attention(q.device(), q.scalar_type());
}

}  // namespace

at::Tensor attend_all(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                      Mask mask) {
  if (has_kernel(q, k, v, heads, mask)) {
    at::Tensor out = at::empty(q.sizes(), q.options());
    for (std::int64_t i = 0; i < q.size(0); ++i) {
      at::Tensor one = out[i];
      attend_by_kernel(q[i], k[i], v[i], heads, one);
    }
    return out;
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(2) / heads));
  const auto split = [&](const at::Tensor& x) {
    return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
  };
  const auto attend = [&](const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
    return at::scaled_dot_product_attention(split(query), split(key), split(value), std::nullopt,
                                            /*dropout_p=*/0.0, mask == Mask::kCausal, scale)
        .transpose(1, 2)
        .reshape(query.sizes());
  };
  if (q.size(0) == 1 || !q.device().is_cpu()) return attend(q, k, v);
  std::vector<at::Tensor> results;
  for (std::int64_t i = 0; i < q.size(0); ++i)
    results.push_back(attend(q.narrow(0, i, 1), k.narrow(0, i, 1), v.narrow(0, i, 1)));
  return at::cat(results);
}

}  // namespace muster::nn
