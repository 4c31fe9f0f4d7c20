// SPDX-License-Identifier: Apache-2.0
// Collectives over the ranks of the job, and the service that hands out dynamic work.
#include <cstddef>
#include <numeric>
#include <optional>

#include "bench.h"
#include "muster/comm/work_service.h"

namespace muster::bench {
namespace {

constexpr std::int64_t kPayloads[] = {1 << 10, 1 << 20, 16 << 20};  // bytes a rank

/// Large payloads take long: fewer of them.
std::int64_t iterations_for(Length length, std::int64_t bytes) {
  return iterations(length, bytes >= (16 << 20) ? 50 : bytes >= (1 << 20) ? 500 : 5000);
}

void set_bytes(benchmark::State& state, const comm::Communicator& world, std::int64_t bytes_a_rank) {
  state.SetBytesProcessed(state.iterations() * bytes_a_rank * world.size());
}

using Benchmark = void (*)(benchmark::State&, comm::Communicator&);

void barrier(benchmark::State& state, comm::Communicator& world) {
  time_slowest_rank(state, world, [&] { world.barrier(); });
}

/// What every rank pays before a collective, to learn that all of them are well.
void agree(benchmark::State& state, comm::Communicator& world) {
  time_slowest_rank(state, world, [&] { comm::collectively(world, [] {}); });
}

void all_reduce(benchmark::State& state, comm::Communicator& world) {
  std::vector<float> values(static_cast<std::size_t>(state.range(0)) / sizeof(float), 1.0F);
  time_slowest_rank(state, world, [&] { world.all_reduce(values, comm::Op::kMax); });
  set_bytes(state, world, state.range(0));
}

void scatterv(benchmark::State& state, comm::Communicator& world) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  std::vector<std::byte> all(world.is_root() ? bytes * static_cast<std::size_t>(world.size()) : 0),
      mine(bytes);
  const std::vector<std::uint64_t> counts(static_cast<std::size_t>(world.size()), bytes);
  time_slowest_rank(state, world, [&] { world.scatterv(all, counts, mine); });
  set_bytes(state, world, state.range(0));
}

void gatherv(benchmark::State& state, comm::Communicator& world) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  std::vector<std::byte> all(world.is_root() ? bytes * static_cast<std::size_t>(world.size()) : 0),
      mine(bytes);
  const std::vector<std::uint64_t> counts(static_cast<std::size_t>(world.size()), bytes);
  time_slowest_rank(state, world, [&] { world.gatherv(mine, all, counts); });
  set_bytes(state, world, state.range(0));
}

/// All ranks ask at the same time, as at the start of a window.
void work_service(benchmark::State& state, comm::Communicator& world) {
  const std::string work(64, 'w');
  comm::WorkService service(world.duplicate(), [&](int) { return std::optional(work); });
  time_slowest_rank(state, world, [&] { benchmark::DoNotOptimize(service.request()); });
}

}  // namespace

void register_comm_benchmarks(comm::Communicator& world, Length length) {
  const auto add = [&](const char* name, Benchmark run) {
    return benchmark::RegisterBenchmark(name, [run, &world](benchmark::State& state) { run(state, world); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  };
  add("comm/barrier", barrier)->Iterations(iterations(length, 5000));
  add("comm/agree", agree)->Iterations(iterations(length, 5000));
  add("comm/work_service_round_trip", work_service)->Iterations(iterations(length, 5000));
  for (const auto bytes : kPayloads) {
    for (const auto& [name, run] : {std::pair{"comm/all_reduce", &all_reduce},
                                    {"comm/scatterv", &scatterv},
                                    {"comm/gatherv", &gatherv}}) {
      add(name, run)->ArgName("bytes_a_rank")->Arg(bytes)->Iterations(iterations_for(length, bytes));
    }
  }
}

}  // namespace muster::bench
