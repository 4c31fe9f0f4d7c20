// SPDX-License-Identifier: Apache-2.0
// The way to NCCL on a machine that has no GPU, or not even the library: an error on every rank that says
// what is missing.
#include "muster/comm/nccl.h"

#include <gtest/gtest.h>

#include "support/mpi_test.h"

namespace muster::comm {
namespace {

TEST(Nccl, WithoutAGpuEveryRankGetsAnErrorOrItWorks) {
  Communicator& world = test::session().world();
  std::uint8_t failed = 0;
  try {
    NcclConfig config;
    config.device = test::session().place().local_rank;
    config.timeout_seconds = 60;
    Communicator nccl(make_nccl_backend(world, config));
    EXPECT_EQ(nccl.all_reduce_value<std::int32_t>(1, Op::kSum), world.size());
  } catch (const core::CommError& error) {
    failed = 1;
    const std::string text = error.what();
    EXPECT_TRUE(text.find("libmuster_cuda.so") != std::string::npos ||
                text.find("cuda") != std::string::npos || text.find("nccl") != std::string::npos)
        << text;
    if (world.is_root()) std::printf("%s\n", error.what());
  }
  const auto all = world.all_gather_value(failed);
  for (const auto one : all) EXPECT_EQ(one, all.front());
}

}  // namespace
}  // namespace muster::comm
