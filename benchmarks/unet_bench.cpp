// SPDX-License-Identifier: Apache-2.0
// One guided step of Stable Diffusion 1.5 at 256 x 256 on one thread: the whole architecture with random
// weights, two samples (with and without the prompt) of 32 x 32 latents.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "bench.h"
#include "muster/models/unet2d.h"
#include "muster/nn/backend.h"

namespace muster::bench {
namespace {

constexpr std::int64_t kTokens = 77;

struct StepShape {
  models::UNet2DConfig config;
  std::int64_t latents = 32;
  c10::ScalarType dtype = c10::ScalarType::BFloat16;
};

std::int64_t elements_of(const nn::Parameter& parameter) {
  std::int64_t count = 1;
  for (const std::int64_t size : parameter.sizes()) count *= size;
  return count;
}

// Every weight a window of the same numbers, scaled to keep activations near 1: drawing 860 million takes
// longer than the benchmark.
std::unique_ptr<models::UNet2D> random_unet(const StepShape& shape) {
  auto unet = std::make_unique<models::UNet2D>(shape.config);
  std::int64_t most = 0;
  unet->visit_parameters(
      [&](const std::string&, nn::Parameter& parameter) { most = std::max(most, elements_of(parameter)); });
  at::manual_seed(1);
  const at::Tensor numbers = at::randn({most});
  unet->visit_parameters([&](const std::string&, nn::Parameter& parameter) {
    const std::int64_t count = elements_of(parameter);
    const double inputs = static_cast<double>(count) / static_cast<double>(parameter.sizes().front());
    parameter.value = (numbers.narrow(0, 0, count).view(parameter.sizes()) * (0.5 / std::sqrt(inputs)))
                          .to(c10::ScalarType::BFloat16);
  });
  unet->prepare({.dtype = shape.dtype});
  return unet;
}

void guided_step(benchmark::State& state, const StepShape& shape) {
  nn::use_one_thread();
  nn::keep_freed_memory();
  const c10::InferenceMode inference;
  const auto unet = random_unet(shape);
  const at::Tensor latents = at::randn({2, shape.config.in_channels, shape.latents, shape.latents});
  const at::Tensor timesteps = at::full({2}, 500.0);
  const models::UNetCondition condition =
      unet->condition(at::randn({2, kTokens, shape.config.cross_width}), {});
  for (auto _ : state)
    benchmark::DoNotOptimize(unet->forward(latents, timesteps, condition).const_data_ptr());
  state.counters["flop/s"] = benchmark::Counter(2 * unet->flops(shape.latents, shape.latents, kTokens),
                                                benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace

void register_unet_benchmarks(Length length) {
  StepShape shape;
  if (length == Length::kSmoke) shape.config.channels = {32, 64, 64, 64};
  const auto add = [&](const char* name) {
    benchmark::RegisterBenchmark(name, guided_step, shape)->Unit(benchmark::kMillisecond);
  };
  add("models/unet_sd15_step_bf16");
  if (length == Length::kSmoke) return;
  shape.dtype = c10::ScalarType::Float;
  add("models/unet_sd15_step_fp32");
}

}  // namespace muster::bench
