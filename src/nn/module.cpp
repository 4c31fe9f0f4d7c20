// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/module.h"

#include <fmt/format.h>

namespace muster::nn {

std::vector<std::int64_t> Parameter::sizes() const {
  std::vector<std::int64_t> out;
  for (const Extent& extent : shape) out.push_back(extent.size);
  return out;
}

std::string Parameter::reason() const {
  std::string out;
  for (const Extent& extent : shape) {
    const std::string part = fmt::format("{}={}", extent.key, extent.size);
    if (extent.key.empty() || out.find(part) != std::string::npos) continue;
    out += (out.empty() ? "" : ", ") + part;
  }
  return out;
}

void Module::visit_parameters(const Visit& visit, const std::string& prefix) {
  for (auto& [name, parameter] : parameters_) visit(prefix + name, parameter);
  for (auto& [name, child] : children_) child->visit_parameters(visit, prefix + name + ".");
}

void Module::visit_modules(const VisitModule& visit, const std::string& prefix) {
  for (auto& [name, child] : children_) {
    visit(prefix + name, *child);
    child->visit_modules(visit, prefix + name + ".");
  }
}

std::uint64_t Module::parameter_count() {
  std::uint64_t total = 0;
  visit_parameters([&](const std::string&, const Parameter& parameter) {
    std::uint64_t count = 1;
    for (const Extent& extent : parameter.shape) count *= static_cast<std::uint64_t>(extent.size);
    total += count;
  });
  return total;
}

void Module::prepare(const ComputeTarget& target) {
  prepared_ = true;
  on_prepare(target);
  for (auto& [name, child] : children_) child->prepare(target);
}

Parameter& Module::add_parameter(std::string name, std::vector<Extent> shape) {
  return parameters_.emplace_back(std::move(name), Parameter{std::move(shape), {}}).second;
}

void Module::add_child(std::string name, Module& child) {
  children_.emplace_back(std::move(name), &child);
}

}  // namespace muster::nn
