// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

namespace muster::nn {

enum class Activation { kIdentity, kRelu, kGelu, kGeluTanh, kQuickGelu, kSilu, kTanh, kSigmoid };

/// transformers' hidden_act names; "gelu" is the exact one (erf), "gelu_new" and its kin the tanh
/// approximation, "quick_gelu" x * sigmoid(1.702 x).
std::optional<Activation> activation_from_hidden_act(std::string_view name);
/// The last component of a torch.nn class path, as sentence-transformers writes it: "Tanh", "Identity",
/// "GELU".
std::optional<Activation> activation_from_torch_class(std::string_view name);

at::Tensor activate(const at::Tensor& x, Activation activation);

}  // namespace muster::nn
