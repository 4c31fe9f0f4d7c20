// SPDX-License-Identifier: Apache-2.0
// A model of a few odd parameters whose gradients are random numbers, and a course of training on it.
#pragma once
#include <ATen/Functions.h>

#include <functional>
#include <thread>
#include <vector>

#include "muster/core/philox.h"
#include "muster/training/trainer.h"

namespace muster::training::test {

inline std::vector<ParameterSpec> toy_parameters() {
  return {{"embedding", {1000, 17}, true}, {"weight", {64, 33}, true}, {"bias", {33}, false},
          {"nothing", {0, 3}, true},       {"scalar", {}, false},      {"wide", {150, 151}, true}};
}

inline at::Tensor random_tensor(const std::vector<std::int64_t>& shape, core::Philox random, float scale) {
  at::Tensor out = at::empty(shape);
  float* data = out.data_ptr<float>();
  for (std::int64_t i = 0; i < out.numel(); ++i) data[i] = scale * (random.next_uniform() - 0.5f);
  return out;
}

inline std::vector<at::Tensor> toy_weights() {
  std::vector<at::Tensor> out;
  for (const auto& parameter : toy_parameters())
    out.push_back(random_tensor(parameter.shape, core::Philox(1, out.size()), 2));
  return out;
}

/// What micro-batch `part` of a global slot adds in a step; very different sizes, so that the order of sums
/// matters.
inline at::Tensor toy_gradient(std::uint64_t step, std::uint64_t slot, std::uint64_t part,
                               std::size_t parameter) {
  const std::uint64_t item = (slot * 10 + part) * 100 + parameter;
  const float scale = std::vector<float>{1, 30, 0.01f, 4}[(slot + part + parameter) % 4];
  return random_tensor(toy_parameters()[parameter].shape, core::Philox(2 + step, item), scale);
}

struct Course {
  TrainerConfig config;
  std::uint64_t first_step = 0, steps = 3, parts = 1;
  c10::ScalarType gradient_dtype = c10::ScalarType::Float;
  /// Changes a gradient before it is added.
  std::function<void(std::uint64_t step, std::uint64_t slot, std::size_t parameter, at::Tensor& gradient)>
      change;
};

inline std::uint64_t first_slot(const std::vector<int>& slots, int rank) {
  std::uint64_t first = 0;
  for (int r = 0; r < rank; ++r) first += static_cast<std::uint64_t>(slots[static_cast<std::size_t>(r)]);
  return first;
}

/// Every slot in a thread of its own, the last parameter first.
inline std::vector<StepReport> train(Trainer& trainer, const Course& course, int rank) {
  std::vector<StepReport> reports;
  const std::size_t parameters = toy_parameters().size();
  const auto add_all = [&](std::uint64_t step, int local) {
    const std::uint64_t slot = first_slot(course.config.slots, rank) + static_cast<std::uint64_t>(local);
    for (std::uint64_t part = 0; part < course.parts; ++part) {
      for (std::size_t p = parameters; p-- > 0;) {
        at::Tensor gradient = toy_gradient(step, slot, part, p).mul_(trainer.loss_scale());
        if (course.change) course.change(step, slot, p, gradient);
        if (gradient.defined()) gradient = gradient.to(course.gradient_dtype);
        trainer.add_gradient(local, p, gradient, part + 1 == course.parts ? More::kNo : More::kYes);
      }
    }
  };
  for (std::uint64_t step = course.first_step; step < course.first_step + course.steps; ++step) {
    trainer.begin_step();
    std::vector<std::thread> threads;
    for (int local = 0; local < course.config.slots[static_cast<std::size_t>(rank)]; ++local)
      threads.emplace_back(add_all, step, local);
    for (auto& thread : threads) thread.join();
    reports.push_back(trainer.end_step());
  }
  return reports;
}

inline bool same_bits(std::span<const at::Tensor> a, std::span<const at::Tensor> b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!a[i].equal(b[i])) return false;
  return true;
}

}  // namespace muster::training::test
