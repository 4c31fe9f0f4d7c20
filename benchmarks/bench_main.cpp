// SPDX-License-Identifier: Apache-2.0
// muster_bench: micro-benchmarks. Alone it runs all of them; under mpirun with several ranks the collective
// ones, which all ranks run in step while rank 0 reports. `--smoke` makes those short. Other flags are Google
// benchmark's.
#include <cstring>
#include <string_view>
#include <vector>

#include "bench.h"
#include "muster/comm/session.h"
#include "muster/core/error.h"
#include "muster/core/log.h"

namespace {

using muster::bench::Length;

class Silent : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>&) override {}
};

/// The arguments for Google benchmark on this rank: only rank 0 writes a report file.
std::vector<char*> arguments_of(int argc, char** argv, int rank, Length& length) {
  std::vector<char*> arguments;
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--smoke") {
      length = Length::kSmoke;
    } else if (rank == 0 || !argument.starts_with("--benchmark_out")) {
      arguments.push_back(argv[i]);
    }
  }
  return arguments;
}

int run(int argc, char** argv) {
  muster::comm::Session session(&argc, &argv);
  const auto& place = session.place();
  muster::core::log::set_label(rank_label(place));

  auto length = Length::kFull;
  auto arguments = arguments_of(argc, argv, place.rank, length);
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;

  muster::bench::register_comm_benchmarks(session.world(), length);
  muster::bench::register_publish_benchmarks(session.world(), length);
  muster::bench::register_training_benchmarks(session.world(), length);
  if (place.size == 1) {
    muster::bench::register_storage_benchmarks(session.world());
    muster::bench::register_plan_benchmarks();
    muster::bench::register_tokenizer_benchmarks();
    muster::bench::register_kernel_benchmarks();
    muster::bench::register_unet_benchmarks(length);
  }
  if (place.rank == 0) {
    benchmark::AddCustomContext("ranks", std::to_string(place.size));
    benchmark::RunSpecifiedBenchmarks();
  } else {
    Silent silent;
    benchmark::RunSpecifiedBenchmarks(&silent);
  }
  benchmark::Shutdown();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    muster::core::log::error("{}", error.what());
    // The other ranks may wait in a collective.
    muster::comm::Session::abort(static_cast<int>(muster::core::exit_code_of(error)));
  }
}
