// SPDX-License-Identifier: Apache-2.0
// An embeddings.h5 from rows in memory to the renamed file: all that encode does after its last batch.
#include <array>
#include <cstddef>
#include <span>

#include "bench.h"
#include "muster/io/hdf5_results.h"

namespace muster::bench {
namespace {

constexpr std::uint64_t kColumns = 768;
constexpr std::uint64_t kBlock = 1024;  // rows a write

void publish(benchmark::State& state, comm::Communicator& world) {
  const auto rows = static_cast<std::uint64_t>(state.range(0));
  const ScratchFolder scratch;
  io::H5FileSpec spec;
  spec.path = world.broadcast_string(scratch.path()) + "/embeddings.h5";
  spec.datasets = {{"/embeddings", io::H5Type::kF32, rows, kColumns},
                   {"/n_tokens", io::H5Type::kI32, rows, 0}};
  spec.ids_rows = rows;

  const auto ranks = static_cast<std::uint64_t>(world.size()),
             rank = static_cast<std::uint64_t>(world.rank());
  const std::uint64_t first = rows * rank / ranks, last = rows * (rank + 1) / ranks;
  const std::vector<float> vectors(kBlock * kColumns, 0.5F);
  const std::vector<std::int32_t> tokens(kBlock, 100);
  time_slowest_rank(state, world, [&] {
    std::uint64_t id = 0;
    spec.next_id = [&] { return "document-" + std::to_string(id++); };
    io::write_h5(spec, world, [&](io::H5RowWriter& writer) {
      for (auto row = first; row < last; row += kBlock) {
        const auto count = std::min(kBlock, last - row);
        const std::array columns = {std::as_bytes(std::span(vectors).first(count * kColumns)),
                                    std::as_bytes(std::span(tokens).first(count))};
        writer.write(row, count, columns);
      }
    });
  });
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(state.iterations() * state.range(0) *
                          static_cast<std::int64_t>(kColumns * sizeof(float) + sizeof(std::int32_t)));
}

}  // namespace

void register_publish_benchmarks(comm::Communicator& world, Length length) {
  benchmark::RegisterBenchmark("io/publish_h5", [&world](benchmark::State& state) { publish(state, world); })
      ->ArgName("rows")
      ->Arg(length == Length::kFull ? 50'000 : 2'000)
      ->Iterations(iterations(length, 10))
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace muster::bench
