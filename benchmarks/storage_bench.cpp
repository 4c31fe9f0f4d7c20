// SPDX-License-Identifier: Apache-2.0
// What makes finished items durable: records to the segment, fsync, a journal line, fsync.
#include <cstddef>

#include "bench.h"
#include "muster/io/run_directory.h"

namespace muster::bench {
namespace {

constexpr std::size_t kPayload = 768 * sizeof(float) + 8;  // a record of encode

void append_and_commit(benchmark::State& state, comm::Communicator& world) {
  const auto count = static_cast<std::size_t>(state.range(0));
  const ScratchFolder scratch;
  io::RunDirectoryConfig config;
  config.path = scratch.path() + "/out";
  config.command = "muster_bench";
  io::RunDirectory directory(config, world);
  directory.open({{"job", "bench"}}, world);

  std::uint64_t item = 0;
  for (auto _ : state) {
    state.PauseTiming();
    std::vector<formats::Record> records(count);
    for (auto& record : records)
      record = {item++, formats::RecordKind::kResult, std::vector<std::byte>(kPayload, std::byte{1})};
    state.ResumeTiming();
    directory.append(std::move(records));
    directory.flush();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(state.iterations() * state.range(0) * static_cast<std::int64_t>(kPayload));
}

/// The same bytes without a disk: framing and checksums.
void frame(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  const formats::Record record{1, formats::RecordKind::kResult,
                               std::vector<std::byte>(kPayload, std::byte{1})};
  for (auto _ : state) {
    formats::SegmentGroup group(0);
    for (std::size_t i = 0; i < count; ++i) group.add(record);
    benchmark::DoNotOptimize(group.finish());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(state.iterations() * state.range(0) * static_cast<std::int64_t>(kPayload));
}

}  // namespace

void register_storage_benchmarks(comm::Communicator& world) {
  benchmark::RegisterBenchmark("formats/segment_frames", frame)
      ->ArgName("records")
      ->Arg(256)
      ->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("io/append_and_commit",
                               [&world](benchmark::State& state) { append_and_commit(state, world); })
      ->ArgName("records")
      ->Arg(16)
      ->Arg(256)
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace muster::bench
