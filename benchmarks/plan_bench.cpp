// SPDX-License-Identifier: Apache-2.0
// Cutting a million items into micro-batches and dealing them, as rank 0 does between reading and scattering.
#include <cmath>
#include <cstddef>

#include "bench.h"
#include "muster/core/philox.h"
#include "muster/plan/plan.h"

namespace muster::bench {
namespace {

constexpr std::size_t kItems = 1'000'000;
constexpr std::int64_t kRanks[] = {8, 1024};

/// Token counts with the skew of real documents: median about 60, a few at the model's limit.
std::vector<std::uint32_t> lengths() {
  std::vector<std::uint32_t> all(kItems);
  for (std::size_t i = 0; i < kItems; ++i) {
    core::Philox random(1, i);
    double normal = -6;
    for (int k = 0; k < 12; ++k) normal += random.next_uniform();
    all[i] = static_cast<std::uint32_t>(std::clamp(std::exp(4.1 + 0.8 * normal), 3.0, 384.0));
  }
  return all;
}

plan::CutConfig cut_config() {
  plan::CutConfig config;
  config.cost = {.per_item = 0, .linear = 170e6, .quadratic = 36864};  // all-mpnet-base-v2
  return config;
}

void cut(benchmark::State& state) {
  const auto all = lengths();
  const auto config = cut_config();
  for (auto _ : state) benchmark::DoNotOptimize(plan::cut_window(all, config));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kItems));
}

template <plan::Deal (*deal)(std::span<const plan::MicroBatch>, std::span<double>)>
void deal_batches(benchmark::State& state) {
  const auto batches = plan::cut_window(lengths(), cut_config());
  double balance = 1;
  for (auto _ : state) {
    std::vector<double> loads(static_cast<std::size_t>(state.range(0)));
    benchmark::DoNotOptimize(deal(batches, loads));
    balance = plan::balance(loads);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kItems));
  state.counters["batches"] = static_cast<double>(batches.size());
  state.counters["balance"] = balance;
}

}  // namespace

void register_plan_benchmarks() {
  benchmark::RegisterBenchmark("plan/cut_1M_items", cut)->Unit(benchmark::kMillisecond);
  for (const auto ranks : kRanks) {
    benchmark::RegisterBenchmark("plan/deal_balanced_1M_items", deal_batches<plan::deal_balanced>)
        ->ArgName("ranks")
        ->Arg(ranks)
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark("plan/deal_dynamic_1M_items", deal_batches<plan::simulate_dynamic>)
        ->ArgName("ranks")
        ->Arg(ranks)
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace muster::bench
