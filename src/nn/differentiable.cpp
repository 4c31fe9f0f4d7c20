// SPDX-License-Identifier: Apache-2.0
#include "nn/differentiable.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <algorithm>
#include <memory>
#include <utility>

namespace muster::nn {
namespace {

using torch::autograd::variable_list;

class LayerNode : public torch::autograd::Node {
 public:
  LayerNode(torch::autograd::edge_list inputs, Backward backward)
      : Node(std::move(inputs)), backward_(std::move(backward)) {}

  variable_list apply(variable_list&& gradients) override {
    if (!gradients[0].defined()) return variable_list(num_outputs());
    TORCH_CHECK(backward_, torch::autograd::ERR_BACKWARD_TWICE);
    const at::NoGradGuard no_graph;
    return backward_(gradients[0], Wanted(*this));
  }

  std::string name() const override { return "muster::nn::LayerNode"; }
  void release_variables() override { backward_ = nullptr; }

 private:
  Backward backward_;
};

}  // namespace

bool needs_graph(std::span<const at::Tensor> inputs) {
  return at::GradMode::is_enabled() && std::any_of(inputs.begin(), inputs.end(), [](const at::Tensor& x) {
           return x.defined() && x.requires_grad();
         });
}

at::Tensor differentiable(at::Tensor out, std::span<const at::Tensor> inputs, Backward backward) {
  if (!needs_graph(inputs)) return out;
  torch::autograd::edge_list edges;
  for (const at::Tensor& input : inputs) {
    const bool part_of_graph = input.defined() && input.requires_grad();
    edges.push_back(part_of_graph ? torch::autograd::impl::gradient_edge(input) : torch::autograd::Edge());
  }
  const std::shared_ptr<LayerNode> node(new LayerNode(std::move(edges), std::move(backward)),
                                        torch::autograd::deleteNode);
  torch::autograd::set_history(out, std::static_pointer_cast<torch::autograd::Node>(node));
  return out;
}

at::Tensor one_node(std::span<const at::Tensor> inputs,
                    const std::function<at::Tensor(std::span<const at::Tensor>)>& layer) {
  std::vector<at::Tensor> own;
  for (const at::Tensor& input : inputs)
    own.push_back(input.defined() ? input.detach().set_requires_grad(needs_graph(std::span(&input, 1)))
                                  : input);
  const at::Tensor out = layer(own);
  return differentiable(out.detach(), inputs, [own, out](const at::Tensor& gradient, const Wanted& wanted) {
    variable_list sources;
    for (std::size_t i = 0; i < own.size(); ++i)
      if (wanted(i)) sources.push_back(own[i]);
    auto found = torch::autograd::grad({out}, sources, {gradient});
    variable_list gradients(own.size());
    std::size_t next = 0;
    for (std::size_t i = 0; i < own.size(); ++i)
      if (wanted(i)) gradients[i] = std::move(found[next++]);
    return gradients;
  });
}

}  // namespace muster::nn
