// SPDX-License-Identifier: Apache-2.0
// What the micro-benchmarks share.
#pragma once
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "muster/comm/communicator.h"
#include "muster/core/clock.h"

namespace muster::bench {

/// Collective benchmarks run on every rank in step, so their iteration counts are fixed, never left to each
/// rank's own clock; smoke runs take a hundredth of them.
enum class Length : std::uint8_t { kFull, kSmoke };

// Each registers the benchmarks of its file. The first three are collective; the others belong to one process
// and run on one rank only.
void register_comm_benchmarks(comm::Communicator& world, Length length);
void register_publish_benchmarks(comm::Communicator& world, Length length);
void register_training_benchmarks(comm::Communicator& world, Length length);
void register_storage_benchmarks(comm::Communicator& world);
void register_plan_benchmarks();
void register_tokenizer_benchmarks();
void register_kernel_benchmarks();
void register_unet_benchmarks(Length length);

/// At least 2.
std::int64_t iterations(Length length, std::int64_t full);

/// Makes the time of an iteration that of the slowest rank: runs `work` on all ranks from a barrier on.
template <class Work>
void time_slowest_rank(benchmark::State& state, comm::Communicator& world, const Work& work) {
  for (auto _ : state) {
    world.barrier();
    const double start = core::monotonic_seconds();
    work();
    state.SetIterationTime(world.all_reduce_value(core::monotonic_seconds() - start, comm::Op::kMax));
  }
}

/// A folder under TMPDIR (or /tmp) that vanishes at the end.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// The documents of configs/demo: real package descriptions, with their skew in length.
std::vector<std::string> demo_texts();

}  // namespace muster::bench
