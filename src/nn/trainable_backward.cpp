// SPDX-License-Identifier: Apache-2.0
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>

#include <memory>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "muster/nn/trainable.h"
#include "nn/differentiable.h"

namespace muster::nn::trainable {
namespace {

using torch::autograd::Node;

// The leaves, other than `input`, that `out` was computed from, in the order of a walk from the end.
std::vector<at::Tensor> leaves_of(const at::Tensor& out, const at::Tensor& input) {
  std::vector<at::Tensor> leaves;
  std::vector<Node*> waiting{out.grad_fn().get()};
  std::unordered_set<Node*> seen;
  while (!waiting.empty()) {
    Node* node = waiting.back();
    waiting.pop_back();
    if (!node || !seen.insert(node).second) continue;
    if (const auto* leaf = dynamic_cast<const torch::autograd::AccumulateGrad*>(node)) {
      if (!leaf->variable.is_same(input)) leaves.push_back(leaf->variable);
      continue;
    }
    for (const torch::autograd::Edge& edge : node->next_edges()) waiting.push_back(edge.function.get());
  }
  return leaves;
}

at::Tensor apart(const at::Tensor& x, bool requires_grad) {
  return x.detach().set_requires_grad(requires_grad);
}

// Takes a leaf's gradient away as soon as it is final.
class TakeGradient : public torch::autograd::PostAccumulateGradHook {
 public:
  using Take = std::function<void(at::Tensor gradient)>;
  explicit TakeGradient(Take take) : take_(std::move(take)) {}

  void operator()(const at::Tensor& leaf) override {
    at::Tensor gradient = std::move(leaf.mutable_grad());
    leaf.mutable_grad().reset();
    take_(std::move(gradient));
  }

 private:
  Take take_;
};

// Hooks on leaves that do not outlive it, also not when backward fails.
class Hooks {
 public:
  explicit Hooks(std::span<const at::Tensor> leaves) : leaves_(leaves) {}
  ~Hooks() {
    for (const at::Tensor& leaf : leaves_) {
      if (!leaf.requires_grad()) continue;
      torch::autograd::impl::set_post_acc_grad_hooks(leaf, nullptr);
      leaf.mutable_grad().reset();
    }
  }
  Hooks(const Hooks&) = delete;
  Hooks& operator=(const Hooks&) = delete;

  void set(std::size_t leaf, TakeGradient::Take take) {
    torch::autograd::impl::set_post_acc_grad_hooks(leaves_[leaf],
                                                   std::make_unique<TakeGradient>(std::move(take)));
  }

 private:
  std::span<const at::Tensor> leaves_;
};

}  // namespace

// The leaves become inputs of the whole layer, so that their gradients flow through LibTorch's graph as if
// the layer's insides were there: a leaf that other layers use too is still final only once.
at::Tensor checkpointed(const std::function<at::Tensor(const at::Tensor&)>& layer, const at::Tensor& x) {
  if (!at::GradMode::is_enabled()) return layer(x);
  const at::Tensor first_input = apart(x, x.requires_grad());
  const at::Tensor first = layer(first_input);
  if (!first.requires_grad()) return first.detach();
  std::vector<at::Tensor> inputs = leaves_of(first, first_input);
  inputs.insert(inputs.begin(), x);

  return differentiable(first.detach(), inputs,
                        [layer, inputs = std::vector<at::Tensor>(inputs.begin() + 1, inputs.end()),
                         x = kept(x)](const at::Tensor& gradient, const Wanted& wanted) {
                          const at::AutoGradMode graph(true);
                          const at::Tensor again = apart(x, wanted(0));
                          std::vector<at::Tensor> sources;
                          std::vector<std::size_t> places;
                          const auto add = [&](std::size_t place, const at::Tensor& source) {
                            if (!wanted(place)) return;
                            sources.push_back(source);
                            places.push_back(place);
                          };
                          add(0, again);
                          for (std::size_t i = 0; i < inputs.size(); ++i) add(i + 1, inputs[i]);
                          const auto found =
                              torch::autograd::grad({layer(again)}, sources, {gradient},
                                                    /*retain_graph=*/false, /*create_graph=*/false,
                                                    /*allow_unused=*/true);
                          std::vector<at::Tensor> gradients(inputs.size() + 1);
                          for (std::size_t i = 0; i < places.size(); ++i) gradients[places[i]] = found[i];
                          return gradients;
                        });
}

void backward(const at::Tensor& loss, std::span<const at::Tensor> leaves,
              const std::function<void(std::size_t leaf, const at::Tensor& gradient)>& ready) {
  std::vector<char> done(leaves.size(), 0);
  // On a device LibTorch's backward runs on a thread of its own; what it finds there waits for the caller.
  const auto caller = std::this_thread::get_id();
  std::vector<std::pair<std::size_t, at::Tensor>> waiting;
  Hooks hooks(leaves);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i].requires_grad()) continue;
    hooks.set(i, [&, i](at::Tensor gradient) {
      done[i] = 1;
      if (std::this_thread::get_id() == caller)
        ready(i, gradient);
      else
        waiting.emplace_back(i, std::move(gradient));
    });
  }
  if (loss.requires_grad()) torch::autograd::backward({loss});
  for (const auto& [leaf, gradient] : waiting) ready(leaf, gradient);
  for (std::size_t i = 0; i < leaves.size(); ++i)
    if (!done[i]) ready(i, {});
}

}  // namespace muster::nn::trainable
