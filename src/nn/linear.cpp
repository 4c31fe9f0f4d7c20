// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/linear.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <array>
#include <string_view>

#include "muster/core/error.h"
#include "muster/core/log.h"
#include "muster/nn/tiles.h"
#include "muster/nn/trainable.h"
#include "nn/kernels/own_kernels.h"
#include "nn/kernels/packed_weight.h"

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

FusedName fused_name(Activation activation) {
  switch (activation) {
    case Activation::kIdentity:
      return {"none", std::nullopt};
    case Activation::kRelu:
      return {"relu", std::nullopt};
    case Activation::kGelu:
      return {"gelu", "none"};
    case Activation::kGeluTanh:
      return {"gelu", "tanh"};
    case Activation::kSilu:
      return {"swish", std::nullopt};
    case Activation::kTanh:
      return {"tanh", std::nullopt};
    case Activation::kSigmoid:
      return {"sigmoid", std::nullopt};
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
  weight_ = reordered_ ? operators()->reorder.call(plain.contiguous(), tile_rows_) : plain;
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
  if (!reordered_) return activate(at::linear(tile, weight_, bias_), activation_);
  const auto [attribute, algorithm] = fused_name(activation_);
  return operators()->product.call(tile, weight_, bias_, attribute, Scalars(), algorithm);
}

at::Tensor PackedLinear::forward_add(const at::Tensor& tile, const at::Tensor& residual) const {
  if (activates_itself_) return multiply_packed(tile, residual);
  core::internal_check(tile.size(0) == tile_rows_ && activation_ == Activation::kIdentity,
                       "a linear layer adds to whole tiles, without an activation");
  if (packed_) return multiply_packed(tile, residual);
  if (!reordered_) return at::linear(tile, weight_, bias_).add_(residual);
  return operators()->product_add.call(tile, residual, weight_, bias_, "add");
}

void PackedLinear::forward_rows(const at::Tensor& x, at::Tensor& out) const {
  if (activates_itself_) return packed_->multiply(x, {}, out);
  for (std::int64_t row = 0; row < x.size(0); row += tile_rows_)
    out.narrow(0, row, tile_rows_).copy_(forward(x.narrow(0, row, tile_rows_)));
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

void Linear::on_prepare(const ComputeTarget& target) {
  if (!weight_->value.defined()) return;  // a parent has taken it
  packed_ = PackedLinear(weight_->value, bias_ ? bias_->value : at::Tensor(), activation_, target);
  weight_->value.reset();
  if (bias_) bias_->value.reset();
}

}  // namespace muster::nn
