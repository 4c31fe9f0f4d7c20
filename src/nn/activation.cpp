// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/activation.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <utility>

#include "muster/core/error.h"

namespace muster::nn {
namespace {

using Named = std::pair<std::string_view, Activation>;

template <std::size_t N>
std::optional<Activation> look_up(const Named (&table)[N], std::string_view name) {
  for (const auto& [known, activation] : table)
    if (known == name) return activation;
  return std::nullopt;
}

}  // namespace

std::optional<Activation> activation_from_hidden_act(std::string_view name) {
  static constexpr Named kTable[] = {
      {"gelu", Activation::kGelu},          {"gelu_python", Activation::kGelu},
      {"gelu_new", Activation::kGeluTanh},  {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh}, {"quick_gelu", Activation::kQuickGelu},
      {"relu", Activation::kRelu},          {"silu", Activation::kSilu},
      {"swish", Activation::kSilu},         {"tanh", Activation::kTanh},
  };
  return look_up(kTable, name);
}

std::optional<Activation> activation_from_torch_class(std::string_view name) {
  static constexpr Named kTable[] = {
      {"Identity", Activation::kIdentity}, {"Tanh", Activation::kTanh}, {"ReLU", Activation::kRelu},
      {"GELU", Activation::kGelu},         {"SiLU", Activation::kSilu}, {"Sigmoid", Activation::kSigmoid},
  };
  return look_up(kTable, name);
}

at::Tensor activate(const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::kIdentity:
      return x;
    case Activation::kRelu:
      return at::relu(x);
    case Activation::kGelu:
      return at::gelu(x, "none");
    case Activation::kGeluTanh:
      return at::gelu(x, "tanh");
    case Activation::kQuickGelu:
      return x * at::sigmoid(x * 1.702);
    case Activation::kSilu:
      return at::silu(x);
    case Activation::kTanh:
      return at::tanh(x);
    case Activation::kSigmoid:
      return at::sigmoid(x);
  }
  throw core::InternalError("unknown activation");
}

}  // namespace muster::nn
