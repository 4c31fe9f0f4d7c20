// SPDX-License-Identifier: Apache-2.0
// Starts comm_probe, which starts mpirun on itself, and checks what comes back.
#include "muster/comm/launch.h"

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>

#include "muster/core/clock.h"
#include "muster/core/env.h"
#include "muster/core/error.h"
#include "support/child_process.h"

namespace muster::comm {
namespace {

using test::beside_this_program;
using test::ChildProcess;

constexpr double kStartSeconds = 30;  // a loaded machine starts two MPI processes
constexpr double kEndSeconds = 20;

std::vector<std::string> probe(const std::string& deed, const std::string& argument, int ranks = 2) {
  return {beside_this_program("comm_probe"), "launch", std::to_string(ranks), "rank", deed, argument};
}

std::vector<pid_t> wait_for_ranks(const std::string& folder, int ranks) {
  std::vector<pid_t> pids;
  for (int r = 0; r < ranks; ++r) {
    const std::string path = folder + "/rank" + std::to_string(r);
    if (!test::wait_for_file(path, kStartSeconds)) return {};
    pid_t pid = 0;
    std::ifstream(path) >> pid;
    pids.push_back(pid);
  }
  return pids;
}

TEST(Launch, TheCommandNamesThisProgramAndItsArguments) {
  const auto command = launch_command(3, {"encode", "a file"});
  const std::vector<std::string> expected = {
      "mpirun", "-n",    "3", "--bind-to", "none", "--oversubscribe", "-q", beside_this_program("comm_test"),
      "encode", "a file"};
  ASSERT_EQ(command.size(), expected.size());
  for (std::size_t i = 0; i < command.size(); ++i) {
    if (i != 7) {
      EXPECT_EQ(command[i], expected[i]);
    }
  }
  EXPECT_EQ(command[7].front(), '/');
}

class LaunchExitCodes : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Codes, LaunchExitCodes, testing::Values(0, 3, 4, 75));

TEST_P(LaunchExitCodes, AreTheRanksOwn) {
  ChildProcess child(probe("exit", std::to_string(GetParam())));
  EXPECT_EQ(child.wait(kStartSeconds), GetParam()) << child.output();
  EXPECT_EQ(child.output().find("muster: starting 2 ranks: mpirun -n 2 "), 0u) << child.output();
  EXPECT_EQ(child.output().find('\n') + 1, child.output().size()) << "more than one line: " << child.output();
}

TEST(Launch, AbortEndsAllRanksWithItsCodeAndQuietly) {
  ChildProcess child(probe("abort", "7"));
  EXPECT_EQ(child.wait(kStartSeconds), 7) << child.output();
  EXPECT_EQ(child.output().find("MPI_ABORT"), std::string::npos) << child.output();
}

TEST(Launch, AKilledRankIs137AndSaidOnce) {
  const double start = core::monotonic_seconds();
  ChildProcess child(probe("die", ""));
  EXPECT_EQ(child.wait(kStartSeconds), 137) << child.output();
  EXPECT_NE(child.output().find("a rank was ended by signal 9 (Killed); run the same command again"),
            std::string::npos)
      << child.output();
  RecordProperty("seconds", static_cast<int>(core::monotonic_seconds() - start));
}

struct SignalCase {
  const char* name;
  int signal;
  const char* deed;
  int code;
};
class LaunchSignals : public testing::TestWithParam<SignalCase> {};
INSTANTIATE_TEST_SUITE_P(Cases, LaunchSignals,
                         testing::Values(SignalCase{"Usr1DrainsTo75", SIGUSR1, "drain", 75},
                                         SignalCase{"InterruptIs130", SIGINT, "sleep", 130},
                                         SignalCase{"TerminateIs143", SIGTERM, "sleep", 143}),
                         [](const auto& test) { return test.param.name; });

TEST_P(LaunchSignals, ReachTheRanks) {
  const test::TemporaryFolder folder;
  ChildProcess child(probe(GetParam().deed, folder.path()));
  const auto pids = wait_for_ranks(folder.path(), 2);
  ASSERT_EQ(pids.size(), 2u) << child.output();
  child.signal(GetParam().signal);
  EXPECT_EQ(child.wait(kEndSeconds), GetParam().code) << child.output();
  for (const pid_t pid : pids)
    EXPECT_TRUE(test::wait_until_gone(pid, 3)) << "rank process " << pid << " is left";
}

TEST(Launch, WhenTheLauncherIsKilledTheRanksEnd) {
  const test::TemporaryFolder folder;
  ChildProcess child(probe("sleep", folder.path()));
  const auto pids = wait_for_ranks(folder.path(), 2);
  ASSERT_EQ(pids.size(), 2u) << child.output();
  child.signal(SIGKILL);
  EXPECT_EQ(child.wait(kEndSeconds), 137);
  for (const pid_t pid : pids)
    EXPECT_TRUE(test::wait_until_gone(pid, 5)) << "rank process " << pid << " is left";
}

TEST(Launch, WithoutMpirunTheMessageNamesTheRemedy) {
  ChildProcess child(probe("exit", "0"), {"PATH=/nonexistent"});
  EXPECT_EQ(child.wait(kStartSeconds), 2) << child.output();
  EXPECT_NE(child.output().find("'mpirun' was not found"), std::string::npos) << child.output();
  EXPECT_NE(child.output().find("-n 1"), std::string::npos) << child.output();
}

/// Sets variables for one test and clears all that detect_launch reads.
class LaunchEnvironment : public testing::Test {
 protected:
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  static void clear() {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "SLURM_STEP_NUM_TASKS"})
      core::set_env(name, "", true);
  }
};

TEST_F(LaunchEnvironment, IsRecognized) {
  EXPECT_EQ(detect_launch(), Launch::kAlone);
  core::set_env("SLURM_STEP_NUM_TASKS", "1", true);
  EXPECT_EQ(detect_launch(), Launch::kAlone);
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"}) {
    clear();
    core::set_env(name, "2", true);
    EXPECT_EQ(detect_launch(), Launch::kUnderMpi) << name;
  }
}

TEST_F(LaunchEnvironment, SeveralTasksWithoutPmixAreRefused) {
  core::set_env("SLURM_STEP_NUM_TASKS", "4", true);
  try {
    detect_launch();
    FAIL() << "no error";
  } catch (const core::ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("srun --mpi=pmix"), std::string::npos) << error.what();
  }
}

TEST_F(LaunchEnvironment, APmiWithoutItsLibraryIsAWorldOfOneAndRefused) {
  ChildProcess child({beside_this_program("comm_probe"), "rank", "exit", "0"},
                     {"SLURM_STEP_NUM_TASKS=4", "PMI_RANK=1"});
  EXPECT_EQ(child.wait(kStartSeconds), 2) << child.output();
  EXPECT_NE(child.output().find("srun --mpi=pmix"), std::string::npos) << child.output();
}

TEST(Launch, OneRankNeedsNoLauncher) {
  ChildProcess child({beside_this_program("comm_probe"), "rank", "exit", "5"}, {"PATH=/nonexistent"});
  EXPECT_EQ(child.wait(kStartSeconds), 5) << child.output();
  EXPECT_EQ(child.output(), "");
}

}  // namespace
}  // namespace muster::comm
