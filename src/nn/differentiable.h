// SPDX-License-Identifier: Apache-2.0
// How a layer computed by our own code becomes a node of LibTorch's graph.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/function.h>

#include <functional>
#include <span>
#include <vector>

namespace muster::nn {

/// Which inputs' gradients somebody asks for.
class Wanted {
 public:
  explicit Wanted(const torch::autograd::Node& node) : node_(node) {}
  bool operator()(std::size_t input) const { return node_.task_should_compute_output(input); }

 private:
  const torch::autograd::Node& node_;
};

/// The gradients of a layer's inputs, in their order, from its output's; undefined where not wanted.
using Backward = std::function<std::vector<at::Tensor>(const at::Tensor& gradient, const Wanted& wanted)>;

/// True when one of `inputs` (some may be undefined) is part of a graph and one is being recorded.
bool needs_graph(std::span<const at::Tensor> inputs);

/// `out`, computed from `inputs` under NoGradGuard, with `backward` behind it. What `backward` captures is
/// kept until it has run; it must not be part of a graph (kept()).
at::Tensor differentiable(at::Tensor out, std::span<const at::Tensor> inputs, Backward backward);

/// What LibTorch's operators make of `inputs`, as one node: their graph is kept inside and run by it.
at::Tensor one_node(std::span<const at::Tensor> inputs,
                    const std::function<at::Tensor(std::span<const at::Tensor>)>& layer);

/// `x` without its history, for a Backward to capture.
inline at::Tensor kept(const at::Tensor& x) {
  return x.defined() ? x.detach() : x;
}

}  // namespace muster::nn
