// SPDX-License-Identifier: Apache-2.0
// What a training step costs beside forward and backward: gradients taken over, exchanged and clipped,
// weights updated and spread. The parameters are those of a small encoder (22.7 million).
#include <ATen/Functions.h>

#include "bench.h"
#include "muster/nn/backend.h"
#include "muster/training/trainer.h"

namespace muster::bench {
namespace {

std::vector<training::ParameterSpec> encoder_parameters() {
  std::vector<training::ParameterSpec> out{
      {"words", {30522, 384}}, {"positions", {512, 384}}, {"types", {2, 384}}};
  const auto linear = [&out](std::int64_t outputs, std::int64_t inputs) {
    out.push_back({"weight", {outputs, inputs}});
    out.push_back({"bias", {outputs}, false});
  };
  const auto norm = [&out] {
    for (const char* name : {"norm.weight", "norm.bias"}) out.push_back({name, {384}, false});
  };
  norm();
  for (int layer = 0; layer < 6; ++layer) {
    for (int i = 0; i < 4; ++i) linear(384, 384);  // query, key, value, output
    norm();
    linear(1536, 384);
    linear(384, 1536);
    norm();
  }
  linear(384, 384);
  return out;
}

std::vector<at::Tensor> filled(std::span<const training::ParameterSpec> parameters, float value,
                               c10::ScalarType type) {
  std::vector<at::Tensor> out;
  for (const auto& parameter : parameters) out.push_back(at::full(parameter.shape, value, type));
  return out;
}

void step(benchmark::State& state, comm::Communicator& world, c10::ScalarType type) {
  nn::use_one_thread();
  const auto parameters = encoder_parameters();
  training::TrainerConfig config;
  config.compute_dtype = config.wire_dtype = type;
  config.slots.assign(static_cast<std::size_t>(world.size()), 1);
  training::Trainer trainer(parameters, filled(parameters, 0.5F, c10::ScalarType::Float), config,
                            world.duplicate());
  const auto gradients = filled(parameters, 1e-3F, type);
  double waited = 0, updated = 0;
  time_slowest_rank(state, world, [&] {
    trainer.begin_step();
    for (std::size_t p = parameters.size(); p-- > 0;)
      trainer.add_gradient(0, p, gradients[p], training::More::kNo);
    const auto report = trainer.end_step();
    waited += report.exchange_wait_seconds;
    updated += report.update_seconds;
  });
  const auto mean_ms = [&](double seconds) {
    return 1e3 * seconds / static_cast<double>(std::max<std::int64_t>(1, state.iterations()));
  };
  state.counters["wait_ms"] = mean_ms(waited);
  state.counters["update_ms"] = mean_ms(updated);
}

}  // namespace

void register_training_benchmarks(comm::Communicator& world, Length length) {
  for (const auto& [name, type] : {std::pair{"training/step_fp32", c10::ScalarType::Float},
                                   {"training/step_bf16", c10::ScalarType::BFloat16}}) {
    benchmark::RegisterBenchmark(name,
                                 [type = type, &world](benchmark::State& state) { step(state, world, type); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond)
        ->Iterations(iterations(length, 100));
  }
}

}  // namespace muster::bench
