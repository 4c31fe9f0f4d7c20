// SPDX-License-Identifier: Apache-2.0
// Backward through stacks of layers: order, threads, recomputing, companions.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <stdexcept>
#include <thread>

#include "trainable_support.h"

namespace muster::nn::trainable {
namespace {

class Checkpointed : public TrainableTest {};
class Backward : public TrainableTest {};
class Companions : public TrainableTest {};

// A small layer stack: attention with a bias that all layers share, norms, feed-forward, all with dropout.
constexpr std::int64_t kWidth = 64, kInner = 96;
constexpr HeadShape kHeads{2, 32};

struct Stack {
  std::vector<at::Tensor> leaves;  // table, bias, then 8 a layer
  int layers = 3;

  explicit Stack(c10::ScalarType dtype) {
    at::manual_seed(9);
    const auto add = [&](const at::Tensor& x, c10::ScalarType type) {
      leaves.push_back(x.to(type).set_requires_grad(true));
    };
    add(normal({50, kWidth}), dtype);
    add(normal({2, 2 * 512 - 1}, 0.1), kFp32);
    for (int layer = 0; layer < layers; ++layer) {
      for (int i = 0; i < 3; ++i) add(normal({kWidth, kWidth}, 0.12), dtype);
      add(at::ones({kWidth}), dtype);
      add(at::zeros({kWidth}), dtype);
      add(normal({kInner, kWidth}, 0.12), dtype);
      add(at::zeros({kInner}), dtype);
      add(normal({kWidth, kInner}, 0.12), dtype);
    }
  }

  Stack(const Stack& other) : layers(other.layers) {  // leaves of its own on the same storage
    for (const at::Tensor& leaf : other.leaves) leaves.push_back(leaf.detach().set_requires_grad(true));
  }

  at::Tensor layer(int number, const at::Tensor& x, Dropout dropout) const {
    const auto own = std::span(leaves).subspan(static_cast<std::size_t>(2 + 8 * number), 8);
    const auto at_site = [&](std::uint32_t site) {
      dropout.site = static_cast<std::uint32_t>(10 * number) + site;
      return dropout;
    };
    const at::Tensor qkv = linears(x, own.first(3), std::vector<at::Tensor>(3));
    const at::Tensor context = attend(qkv, kHeads, leaves[1], at_site(0));
    const NormParameters norm{own[3], own[4], 1e-5};
    const at::Tensor middle = add_norm(context, x, norm, at_site(1));
    const at::Tensor inner = linear_gelu(middle, own[5], own[6]);
    return add_norm(trainable::linear(inner, own[7], {}), middle, norm, at_site(2));
  }

  enum class Insides { kKept, kRecomputed };
  // A row of sums for every text, so that a text's part of the loss is its own.
  at::Tensor forward(const at::Tensor& tokens, const Dropout& dropout, Insides insides) const {
    at::Tensor x = drop(embed(leaves[0], tokens), dropout);
    for (int i = 0; i < layers; ++i) {
      const auto one = [this, i, dropout](const at::Tensor& input) { return layer(i, input, dropout); };
      x = insides == Insides::kKept ? one(x) : checkpointed(one, x);
    }
    return x;
  }
};

at::Tensor some_tokens(std::int64_t rows) {
  return (at::arange(rows) * 7) % 50;
}

std::vector<at::Tensor> gradients_of(const Stack& stack, const Lengths& lengths, Stack::Insides insides) {
  const Dropout dropout = dropout_of(0.1, texts_of(lengths));
  const at::Tensor out = stack.forward(some_tokens(dropout.texts->rows), dropout, insides);
  std::vector<at::Tensor> gradients(stack.leaves.size());
  backward((out.to(kFp32) * at::arange(out.numel()).view(out.sizes()).sin()).sum(), stack.leaves,
           [&](std::size_t leaf, const at::Tensor& gradient) { gradients[leaf] = gradient; });
  return gradients;
}

void expect_same(std::span<const at::Tensor> found, std::span<const at::Tensor> expected) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_TRUE(found[i].defined() && expected[i].defined()) << i;
    EXPECT_TRUE(at::equal(found[i], expected[i])) << "leaf " << i;
  }
}

TEST_F(Checkpointed, ChangesNoBit) {
  for (const auto dtype : {kFp32, kBf16}) {
    const Stack stack(dtype);
    expect_same(gradients_of(stack, {5, 30, 1}, Stack::Insides::kRecomputed),
                gradients_of(stack, {5, 30, 1}, Stack::Insides::kKept));
  }
}

TEST_F(Checkpointed, WithoutGraphOrLeaves) {
  const at::Tensor x = normal({3, 4}), w = normal({4, 4}).set_requires_grad(true);
  const auto layer = [&](const at::Tensor& input) { return trainable::linear(input, w, {}); };
  {
    const c10::NoGradGuard no_graph;
    EXPECT_FALSE(checkpointed(layer, x).requires_grad());
  }
  EXPECT_FALSE(checkpointed([](const at::Tensor& input) { return input * 2; }, x).requires_grad());
  backward(checkpointed(layer, x).sum(), std::span(&w, 1), [&](std::size_t, const at::Tensor& gradient) {
    EXPECT_LE(distance(gradient, x.sum(0).expand({4, 4})), 1e-6);
  });
}

TEST_F(Backward, CallsReadyOnceInTheOrderOfBackward) {
  for (const auto insides : {Stack::Insides::kKept, Stack::Insides::kRecomputed}) {
    Stack stack(kFp32);
    at::Tensor unused = normal({3}).set_requires_grad(true), frozen = normal({3});
    std::vector<at::Tensor> leaves = stack.leaves;
    leaves.push_back(unused);
    leaves.push_back(frozen);
    const Dropout dropout = dropout_of(0.1, texts_of({5, 9}));
    const at::Tensor out = stack.forward(some_tokens(14), dropout, insides);
    std::vector<std::size_t> order;
    const auto caller = std::this_thread::get_id();
    backward(out.sum(), leaves, [&](std::size_t leaf, const at::Tensor& gradient) {
      EXPECT_EQ(std::this_thread::get_id(), caller);
      EXPECT_EQ(gradient.defined(), leaf < stack.leaves.size());
      order.push_back(leaf);
    });
    ASSERT_EQ(order.size(), leaves.size());
    const auto place = [&](std::size_t leaf) {
      return std::find(order.begin(), order.end(), leaf) - order.begin();
    };
    for (std::size_t leaf = 0; leaf < leaves.size(); ++leaf)
      EXPECT_EQ(std::count(order.begin(), order.end(), leaf), 1) << leaf;
    const auto layer_of = [](std::size_t leaf) { return (leaf - 2) / 8; };
    for (std::size_t a = 2; a < stack.leaves.size(); ++a)
      for (std::size_t b = a; b < stack.leaves.size(); ++b)
        if (layer_of(a) < layer_of(b)) {
          EXPECT_GT(place(a), place(b)) << a << " " << b;
        }
    EXPECT_GT(place(0), place(2));      // the table last of all layers' leaves
    EXPECT_GT(place(1), place(2 + 8));  // the shared bias only with the lowest layer
    for (const at::Tensor& leaf : leaves) EXPECT_FALSE(leaf.grad().defined());
  }
}

TEST_F(Backward, LeavesNothingBehindWhenReadyFails) {
  const at::Tensor w = normal({4, 4}).set_requires_grad(true);
  const auto failing = [](std::size_t, const at::Tensor&) { throw std::runtime_error("full"); };
  EXPECT_THROW(backward(trainable::linear(normal({2, 4}), w, {}).sum(), std::span(&w, 1), failing),
               std::runtime_error);
  EXPECT_FALSE(w.grad().defined());
  trainable::linear(normal({2, 4}), w, {}).sum().backward();  // LibTorch's own, which nobody listens to
  EXPECT_TRUE(w.grad().defined());
  w.mutable_grad().reset();
  int calls = 0;
  backward(trainable::linear(normal({2, 4}), w, {}).sum(), std::span(&w, 1),
           [&](std::size_t, const at::Tensor&) { ++calls; });
  EXPECT_EQ(calls, 1);
}

TEST_F(Backward, ThreadsWithLeavesOnSharedStorage) {
  const Stack stack(kBf16);
  const auto alone = gradients_of(stack, {20, 33}, Stack::Insides::kKept);
  std::vector<at::Tensor> found[2];
  std::vector<std::thread> threads;
  for (auto& mine : found)
    threads.emplace_back([&stack, &mine] {
      const Stack own(stack);
      for (int i = 0; i < 5; ++i) mine = gradients_of(own, {20, 33}, Stack::Insides::kKept);
    });
  for (std::thread& thread : threads) thread.join();
  for (const auto& mine : found) expect_same(mine, alone);
}

// What a text is worth does not depend on who is beside it: value and gradient of its own rows.
TEST_F(Companions, DoNotMatter) {
  for (const auto dtype : {kFp32, kBf16}) {
    SCOPED_TRACE(c10::toString(dtype));
    const Stack stack(dtype);
    const at::Tensor rows = normal({600, kWidth}).to(dtype), weights = normal({600, kWidth});
    const auto run_texts = [&](const Lengths& lengths, std::uint64_t first_item, std::int64_t first_row) {
      const Dropout dropout = dropout_of(0.1, texts_of(lengths, first_item));
      const std::int64_t count = dropout.texts->rows;
      at::Tensor x = rows.narrow(0, first_row, count).clone().set_requires_grad(true);
      at::Tensor out = x;
      for (int i = 0; i < stack.layers; ++i) out = stack.layer(i, out, dropout);
      at::Tensor gradient;
      backward((out.to(kFp32) * weights.narrow(0, first_row, count)).sum(), std::span(&x, 1),
               [&](std::size_t, const at::Tensor& found) { gradient = found; });
      return std::pair(out.detach(), gradient);
    };
    const auto [out, gradient] = run_texts({300, 1, 77, 40}, 100, 0);
    const auto [own_out, own_gradient] = run_texts({77}, 102, 301);
    EXPECT_TRUE(at::equal(own_out, out.narrow(0, 301, 77)));
    EXPECT_TRUE(at::equal(own_gradient, gradient.narrow(0, 301, 77)));
  }
}

}  // namespace
}  // namespace muster::nn::trainable
