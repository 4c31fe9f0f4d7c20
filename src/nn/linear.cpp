// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/linear.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <array>
#include <string_view>

#include "muster/core/error.h"
#include "muster/core/log.h"
#include "muster/nn/image_layers.h"
#include "muster/nn/tiles.h"
#include "muster/nn/trainable.h"
#include "nn/kernels/own_kernels.h"
#include "nn/kernels/packed_weight.h"
#include "nn/live_adapters.h"
#include "nn/weight_home.h"

namespace muster::nn {
namespace {

// LibTorch's private oneDNN operators, found by name when the process starts to use them.
using Scalars = c10::List<std::optional<at::Scalar>>;
using Reorder = at::Tensor(const at::Tensor&, std::optional<std::int64_t>);
using Product = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                           std::string_view, Scalars, std::optional<std::string_view>);
using ProductAdd = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                              const std::optional<at::Tensor>&, std::string_view);

struct Operators {
  c10::TypedOperatorHandle<Reorder> reorder;
  c10::TypedOperatorHandle<Product> product;
  c10::TypedOperatorHandle<ProductAdd> product_add;
};

std::optional<Operators> find_operators() {
  auto& dispatcher = c10::Dispatcher::singleton();
  const auto reorder = dispatcher.findSchema({"mkldnn::_reorder_linear_weight", ""});
  const auto product = dispatcher.findSchema({"mkldnn::_linear_pointwise", ""});
  const auto product_add = dispatcher.findSchema({"mkldnn::_linear_pointwise", "binary"});
  if (!reorder || !product || !product_add) return std::nullopt;
  return Operators{reorder->typed<Reorder>(), product->typed<Product>(), product_add->typed<ProductAdd>()};
}

const std::optional<Operators>& operators() {
  static const std::optional<Operators> found = find_operators();
  return found;
}

// The operators may exist and still refuse this processor or type, so each type is tried once.
bool works(c10::ScalarType dtype) {
  try {
    const at::Tensor weight = at::zeros({16, 16}, dtype);
    const at::Tensor x = at::zeros({kTileRows, 16}, dtype);
    const at::Tensor packed = operators()->reorder.call(weight, kTileRows);
    operators()->product.call(x, packed, std::nullopt, "gelu", Scalars(), "none");
    operators()->product_add.call(x, x, packed, std::nullopt, "add");
    return true;
  } catch (const std::exception& error) {
    core::log::debug("linear layers take the plain path for {}: {}", c10::toString(dtype), error.what());
    return false;
  }
}

bool can_reorder(const ComputeTarget& target) {
  if (target.device.type() != c10::DeviceType::CPU || !operators()) return false;
  static const bool fp32 = works(c10::ScalarType::Float);
  static const bool bf16 = works(c10::ScalarType::BFloat16);
  if (target.dtype == c10::ScalarType::Float) return fp32;
  return target.dtype == c10::ScalarType::BFloat16 && bf16;
}

struct FusedName {
  std::string_view attribute;
  std::optional<std::string_view> algorithm;
};

// Nothing for what oneDNN does not compute behind a product.
std::optional<FusedName> fused_name(Activation activation) {
  switch (activation) {
    case Activation::kIdentity:
      return FusedName{"none", std::nullopt};
    case Activation::kRelu:
      return FusedName{"relu", std::nullopt};
    case Activation::kGelu:
      return FusedName{"gelu", "none"};
    case Activation::kGeluTanh:
      return FusedName{"gelu", "tanh"};
    case Activation::kQuickGelu:
      return std::nullopt;
    case Activation::kSilu:
      return FusedName{"swish", std::nullopt};
    case Activation::kTanh:
      return FusedName{"tanh", std::nullopt};
    case Activation::kSigmoid:
      return FusedName{"sigmoid", std::nullopt};
  }
  throw core::InternalError("unknown activation");
}

kernels::LinearActivation kernel_activation(Activation activation) {
  switch (activation) {
    case Activation::kIdentity:
      return kernels::LinearActivation::kIdentity;
    case Activation::kRelu:
      return kernels::LinearActivation::kRelu;
    case Activation::kGelu:
      return kernels::LinearActivation::kGelu;
    case Activation::kGeluTanh:
      return kernels::LinearActivation::kGeluTanh;
    case Activation::kQuickGelu:
      return kernels::LinearActivation::kQuickGelu;
    case Activation::kSilu:
      return kernels::LinearActivation::kSilu;
    case Activation::kTanh:
      return kernels::LinearActivation::kTanh;
    case Activation::kSigmoid:
      return kernels::LinearActivation::kSigmoid;
  }
  throw core::InternalError("unknown activation");
}

std::shared_ptr<const kernels::PackedWeight> pack(const at::Tensor& weight, const at::Tensor& bias,
                                                  Activation activation, const ComputeTarget& target) {
  if (kernels::has_own_fp32_linear(target))
    return std::make_shared<const kernels::PackedWeight>(weight, bias, kernels::LinearActivation::kIdentity,
                                                         kernels::WeightStorage::kFp32);
  if (!kernels::has_own_linear(target)) return nullptr;
  const auto storage =
      target.weights == WeightType::kInt8 ? kernels::WeightStorage::kInt8 : kernels::WeightStorage::kBf16;
  return std::make_shared<const kernels::PackedWeight>(weight, bias, kernel_activation(activation), storage);
}

// Contiguous in themselves.
at::Tensor with_rows(const at::Tensor& x) {
  return x.stride(-1) == 1 ? x : x.contiguous();
}

}  // namespace

bool has_reordered_linear() {
  return can_reorder({});
}

bool has_int8_linear() {
  return kernels::cpu_kernels() != nullptr;
}

PackedLinear::PackedLinear(const at::Tensor& weight, const at::Tensor& bias, Activation activation,
                           const ComputeTarget& target)
    : activation_(activation) {
  prepare(weight, bias, target);
}

PackedLinear PackedLinear::on_host(const at::Tensor& weight, const at::Tensor& bias, Activation activation,
                                   std::int64_t tile_rows) {
  PackedLinear linear;
  linear.activation_ = activation;
  linear.tile_rows_ = tile_rows;
  linear.prepare(weight, bias, {});
  return linear;
}

void PackedLinear::prepare(const at::Tensor& weight, const at::Tensor& bias, const ComputeTarget& target) {
  packed_ = pack(weight, bias, activation_, target);
  activates_itself_ = packed_ && kernels::has_own_linear(target);
  if (packed_) return;
  reordered_ = can_reorder(target);
  const at::Tensor plain =
      weight.to(target.device, target.dtype, /*non_blocking=*/false, /*copy=*/!reordered_);
  weight_ = reordered_ ? operators()->reorder.call(plain.contiguous(), tile_rows_) : at_home(plain, target);
  if (bias.defined()) bias_ = bias.to(target.device, target.dtype, /*non_blocking=*/false, /*copy=*/true);
}

at::Tensor PackedLinear::multiply_packed(const at::Tensor& x, const at::Tensor& residual) const {
  at::Tensor out = at::empty({x.size(0), packed_->out()}, x.options());
  packed_->multiply(x, residual, out);
  return out;
}

at::Tensor PackedLinear::forward(const at::Tensor& tile) const {
  if (activates_itself_) return multiply_packed(tile, {});
  core::internal_check(tile.size(0) == tile_rows_, "a linear layer computes whole tiles");
  if (packed_) return activate(multiply_packed(tile, {}), activation_);
  if (!reordered_) return activate(at::linear(tile, fetched(weight_, tile), bias_), activation_);
  const auto fused = fused_name(activation_);
  if (!fused)
    return activate(operators()->product.call(tile, weight_, bias_, "none", Scalars(), std::nullopt),
                    activation_);
  return operators()->product.call(tile, weight_, bias_, fused->attribute, Scalars(), fused->algorithm);
}

at::Tensor PackedLinear::forward_add(const at::Tensor& tile, const at::Tensor& residual) const {
  if (activates_itself_) return multiply_packed(tile, residual);
  core::internal_check(tile.size(0) == tile_rows_ && activation_ == Activation::kIdentity,
                       "a linear layer adds to whole tiles, without an activation");
  if (packed_) return multiply_packed(tile, residual);
  if (!reordered_) return at::linear(tile, fetched(weight_, tile), bias_).add_(residual);
  return operators()->product_add.call(tile, residual, weight_, bias_, "add");
}

void PackedLinear::forward_rows(const at::Tensor& x, at::Tensor& out) const {
  if (activates_itself_) return packed_->multiply(x, {}, out);
  for (std::int64_t row = 0; row < x.size(0); row += tile_rows_)
    out.narrow(0, row, tile_rows_).copy_(forward(x.narrow(0, row, tile_rows_)));
}

at::Tensor PackedLinear::apply(const at::Tensor& x, const at::Tensor& residual) const {
  if (activates_itself_) return multiply_packed(with_rows(x), residual);
  at::Tensor y;
  if (!packed_ && !x.device().is_cpu()) {
    y = activate(at::linear(x, fetched(weight_, x), bias_), activation_);
  } else {
    const std::int64_t rows = x.size(0), missing = (tile_rows_ - rows % tile_rows_) % tile_rows_;
    const at::Tensor whole = missing == 0 ? x.contiguous() : at::constant_pad_nd(x, {0, 0, 0, missing});
    std::vector<at::Tensor> tiles;
    for (std::int64_t row = 0; row < whole.size(0); row += tile_rows_)
      tiles.push_back(forward(whole.narrow(0, row, tile_rows_)));
    y = (tiles.size() == 1 ? tiles.front() : at::cat(tiles)).narrow(0, 0, rows);
  }
  return residual.defined() ? at::add(y, residual) : y;
}

Linear::Linear(Extent in, Extent out, Activation activation, Bias bias) : activation_(activation) {
  weight_ = &add_parameter("weight", {out, in});
  if (bias == Bias::kYes) bias_ = &add_parameter("bias", {out});
}

at::Tensor Linear::forward_rows(const at::Tensor& x) const {
  at::Tensor out = at::empty({x.size(0), weight_->shape.front().size}, x.options());
  packed_.forward_rows(x, out);
  return out;
}

at::Tensor Linear::forward_training(const at::Tensor& x) const {
  if (activation_ == Activation::kGelu) return trainable::linear_gelu(x, weight_value(), bias_value());
  return activate(trainable::linear(x, weight_value(), bias_value()), activation_);
}

at::Tensor Linear::apply(const at::Tensor& x, const at::Tensor& residual) const {
  const at::Tensor rows = x.reshape({-1, x.size(-1)});
  const std::int64_t out = weight_->shape.front().size;
  const at::Tensor added = residual.defined() ? residual.reshape({-1, out}) : residual;
  at::Tensor y;
  if (!prepared()) {
    y = activate(apply_training(rows), activation_);
    if (added.defined()) y = y + added;
  } else if (adapters_.empty()) {
    y = packed_.apply(rows, added);
  } else {  // packed_ has no activation
    y = packed_.apply(rows, up_.apply(down_.apply(rows, {}), {}));
    y = activate_each(y.view({x.size(0), -1}), activation_).view(y.sizes());
    if (added.defined()) y.add_(added);
  }
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = out;
  return y.view(shape);
}

at::Tensor Linear::apply_training(const at::Tensor& rows) const {
  const auto dtype = rows.scalar_type();
  const at::Tensor bias = bias_ ? bias_->value.to(dtype) : at::Tensor();
  if (adapters_.empty()) return trainable::linear(rows, weight_->value.to(dtype), bias);
  const LiveAdapters live = combine(weight_->value, adapters_);
  const at::Tensor low = trainable::linear(rows, live.down.to(dtype), {});
  return trainable::linear(rows, live.scaled(weight_->value).to(dtype), bias) +
         trainable::linear(low, live.up.to(dtype), {});
}

void Linear::attach(LowRank adapter) {
  core::internal_check(!prepared(), "adapters are attached before prepare()");
  adapters_.push_back(std::move(adapter));
}

void Linear::on_prepare(const ComputeTarget& target) {
  if (!weight_->value.defined()) return;  // a parent has taken it
  at::Tensor weight = weight_->value;
  if (!adapters_.empty()) {
    const LiveAdapters live = combine(weight, adapters_);
    weight = live.scaled(weight);
    down_ = PackedLinear(live.down, {}, Activation::kIdentity, target);
    up_ = PackedLinear(live.up, {}, Activation::kIdentity, target);
  }
  const Activation fused = adapters_.empty() ? activation_ : Activation::kIdentity;
  packed_ = PackedLinear(weight, bias_ ? bias_->value : at::Tensor(), fused, target);
  weight_->value.reset();
  if (bias_) bias_->value.reset();
}

}  // namespace muster::nn
