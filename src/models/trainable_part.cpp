// SPDX-License-Identifier: Apache-2.0
#include "muster/models/trainable_part.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "muster/core/error.h"
#include "muster/core/philox.h"

namespace muster::models {
namespace {

constexpr double kEmbeddingDeviation = 0.02;

bool is_embedding(const std::string& name) {
  return name.ends_with("_embedding.weight");
}

bool is_bias(const std::string& name) {
  return name.ends_with("bias");
}

void fill_uniform(at::Tensor& weight, core::Philox random, double bound) {
  float* values = weight.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < weight.numel(); ++i)
    values[i] = static_cast<float>(bound * (2.0 * random.next_uniform() - 1.0));
}

// Box and Muller's, one number of each pair.
void fill_normal(at::Tensor& weight, core::Philox random, double deviation) {
  float* values = weight.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < weight.numel(); ++i) {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - static_cast<double>(random.next_uniform())));
    const double angle = 2.0 * std::numbers::pi * random.next_uniform();
    values[i] = static_cast<float>(deviation * radius * std::cos(angle));
  }
}

at::Tensor first_weight(const PartParameter& parameter, core::Philox random) {
  at::Tensor weight = at::zeros(parameter.shape, c10::ScalarType::Float);
  if (is_bias(parameter.name)) return weight;
  if (parameter.shape.size() == 1) return weight.fill_(1);
  if (is_embedding(parameter.name)) {
    fill_normal(weight, random, kEmbeddingDeviation);
  } else {
    const auto inputs = static_cast<double>(weight.numel() / weight.size(0));
    fill_uniform(weight, random, 1 / std::sqrt(inputs));
  }
  return weight;
}

template <class Use>
void for_each_value(nn::Module& part, std::span<const at::Tensor> weights, const Use& use) {
  std::size_t i = 0;
  part.visit_parameters([&](const std::string& name, nn::Parameter& parameter) {
    core::internal_check(i < weights.size() && weights[i].sizes() == parameter.sizes(),
                         fmt::format("no weight fits '{}'", name));
    parameter.value = use(weights[i++]);
  });
  core::internal_check(i == weights.size(), "every weight has a parameter");
}

}  // namespace

std::vector<PartParameter> part_parameters(nn::Module& part) {
  std::vector<PartParameter> out;
  part.visit_parameters([&](const std::string& name, nn::Parameter& parameter) {
    auto shape = parameter.sizes();
    const bool decays = shape.size() > 1 && !is_embedding(name);
    out.push_back({name, std::move(shape), decays});
  });
  return out;
}

std::vector<at::Tensor> first_weights(nn::Module& part, std::uint64_t seed, const std::string& zeroed) {
  std::vector<at::Tensor> out;
  for (const auto& parameter : part_parameters(part)) {
    out.push_back(first_weight(parameter, core::Philox(seed, out.size())));
    if (!zeroed.empty() && parameter.name.ends_with(zeroed)) out.back().zero_();
  }
  return out;
}

std::vector<at::Tensor> loaded_weights(nn::Module& part) {
  std::vector<at::Tensor> out;
  part.visit_parameters([&](const std::string&, nn::Parameter& parameter) {
    out.push_back(parameter.value.to(c10::Device(c10::DeviceType::CPU), c10::ScalarType::Float,
                                     /*non_blocking=*/false, /*copy=*/true)
                      .contiguous());
  });
  return out;
}

std::vector<at::Tensor> set_leaves(nn::Module& part, std::span<const at::Tensor> weights) {
  std::vector<at::Tensor> leaves;
  for_each_value(part, weights, [&](const at::Tensor& weight) {
    leaves.push_back(weight.detach().set_requires_grad(true));
    return leaves.back();
  });
  return leaves;
}

void set_weights(nn::Module& part, std::span<const at::Tensor> weights) {
  for_each_value(part, weights, [](const at::Tensor& weight) { return weight; });
}

}  // namespace muster::models
