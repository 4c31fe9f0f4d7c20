// SPDX-License-Identifier: Apache-2.0
// The contract's table of trouble, its lines about the output: full, failing and read-only disks, two jobs on
// one directory, nobody who reads the messages.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "mounts.h"
#include "system.h"

namespace muster::test {
namespace {

constexpr int kItems = 300;
const Command kSlow{"--batch-size", "6", "--milliseconds", "6", "--set", "run.window_items=90"};

/// What starting the program costs on this machine at this moment: bounds in seconds are counted from there.
double start_cost() {
  return run({muster_program(), "--version"}).seconds;
}

void expect_rest_is_done(const Scratch& scratch, const Command& command, int least_saved) {
  const auto rest = run(mpirun(2) + command);
  ASSERT_EQ(rest.exit_code, 0) << rest.output;
  EXPECT_GE(resumed_items(rest).value_or(0), least_saved) << rest.output;
  expect_toy_results(scratch, kItems);
}

TEST(FullDisk, InTheMiddleOfTheWork) {
  const Scratch scratch;
  const auto disk = Mount::tmpfs(scratch / "out", "4m");
  if (!disk.ok()) GTEST_SKIP() << disk.reason();
  write_text(scratch / "in.tsv", toy_lines(kItems));
  Job job(mpirun(2) + toy(scratch, kSlow));
  ASSERT_TRUE(wait_for_commit(job, scratch / "out")) << job.output();
  fill_disk(scratch / "out");
  const auto outcome = job.wait(20);
  EXPECT_EQ(outcome.exit_code, 7) << outcome.output;
  EXPECT_TRUE(outcome.contains("No space left on device")) << outcome.output;
  EXPECT_TRUE(outcome.contains("/out/.run/segment_") || outcome.contains("/out/.run/journal_"))
      << outcome.output;
  free_disk(scratch / "out");
  expect_rest_is_done(scratch, toy(scratch), 6);
}

TEST(FullDisk, ExactlyInThePublishLeavesTheOldTable) {
  const Scratch scratch;
  const auto disk = Mount::tmpfs(scratch / "out", "4m");
  if (!disk.ok()) GTEST_SKIP() << disk.reason();
  write_text(scratch / "in.tsv", toy_lines(kItems) + "evil\tbad item\n");
  ASSERT_EQ(run(toy(scratch)).exit_code, 4);
  const std::string old_table = read_text(scratch / "out/sums.h5");
  Job job(mpirun(2) + toy(scratch, {"--retry-failed"}), {{"MUSTER_FAULT", "publish.begin:0:1:stop"}});
  const Ranks ranks = wait_for_ranks(job, "muster_toy", 2);
  const auto stopped = [&] {
    return read_text(fmt::format("/proc/{}/stat", ranks.pids.at(0))).find(") T ") != std::string::npos;
  };
  ASSERT_TRUE(wait_for(stopped, 20)) << job.output();
  fill_disk(scratch / "out");
  ::kill(ranks.pids.at(0), SIGCONT);
  const auto outcome = job.wait(20);
  EXPECT_EQ(outcome.exit_code, 7) << outcome.output;
  EXPECT_TRUE(outcome.contains("sums.h5")) << outcome.output;
  EXPECT_EQ(read_text(scratch / "out/sums.h5"), old_table);
  EXPECT_FALSE(exists(scratch / "out/sums.h5.tmp"));
  free_disk(scratch / "out");
  const auto rest = run(mpirun(2) + toy(scratch));
  EXPECT_EQ(rest.exit_code, 4) << rest.output;
  expect_toy_results(scratch, kItems);
}

TEST(FullDisk, TooSmallForTheResultIsSaidBeforeAnyWork) {
  const Scratch scratch;
  const auto disk = Mount::tmpfs(scratch / "out", "512k");
  if (!disk.ok()) GTEST_SKIP() << disk.reason();
  write_text(scratch / "in.tsv", as_tsv(sample(10)));
  const auto outcome = run(encode(scratch, {"--log-level", "debug"}));
  EXPECT_EQ(outcome.exit_code, 7) << outcome.output;
  EXPECT_TRUE(outcome.contains(scratch / "out")) << outcome.output;
  EXPECT_TRUE(outcome.contains("free some space")) << outcome.output;
  EXPECT_FALSE(outcome.contains("model loaded")) << outcome.output;
}

TEST(ReadOnlyOutput, IsSaidBeforeTheModelIsLoaded) {
  const Scratch scratch;
  std::filesystem::create_directory(scratch / "out");
  const auto disk = Mount::read_only(scratch / "out");
  if (!disk.ok()) GTEST_SKIP() << disk.reason();
  write_text(scratch / "in.tsv", as_tsv(sample(10)));
  const double start = start_cost();
  const auto outcome = run(encode(scratch, {"--log-level", "debug"}));
  EXPECT_EQ(outcome.exit_code, 7) << outcome.output;
  EXPECT_LT(outcome.seconds, start + 2);
  EXPECT_TRUE(outcome.contains(scratch / "out")) << outcome.output;
  EXPECT_TRUE(outcome.contains("Read-only file system")) << outcome.output;
  EXPECT_FALSE(outcome.contains("model loaded")) << outcome.output;
}

TEST(TwoJobs, OnOneDirectoryOneWins) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", toy_lines(kItems));
  const double start = start_cost();
  Job winner(mpirun(2) + toy(scratch, {"--batch-size", "1", "--milliseconds", "50"}));
  const Ranks ranks = wait_for_ranks(winner, "muster_toy", 2);
  ASSERT_TRUE(wait_for_commit(winner, scratch / "out")) << winner.output();
  const auto loser = run(toy(scratch));
  winner.signal(SIGUSR1);
  EXPECT_EQ(loser.exit_code, 7) << loser.output;
  EXPECT_LT(loser.seconds, start + 2);
  EXPECT_TRUE(loser.contains("is in use by another job")) << loser.output;
  EXPECT_TRUE(loser.contains(fmt::format("pid {}", ranks.pids.at(0)))) << loser.output;
  const auto outcome = winner.wait(30);
  EXPECT_EQ(outcome.exit_code, 75) << "the winner does not notice: " << outcome.output;
}

/// A failed system call, and whose path the message must name.
struct Failing {
  const char* fault;
  const char* path;
  const char* reason;
};

void PrintTo(const Failing& failing, std::ostream* out) {
  *out << failing.fault;
}

class FailingDisk : public ::testing::TestWithParam<Failing> {};

TEST_P(FailingDisk, IsNamedAndARerunIsExact) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", toy_lines(kItems));
  const auto outcome = run(mpirun(2) + toy(scratch, kSlow), {{"MUSTER_FAULT", GetParam().fault}}, 30);
  EXPECT_FALSE(outcome.timed_out);
  EXPECT_EQ(outcome.exit_code, 7) << outcome.output;
  EXPECT_TRUE(outcome.contains(GetParam().path)) << outcome.output;
  EXPECT_TRUE(outcome.contains(GetParam().reason)) << outcome.output;
  EXPECT_FALSE(exists(scratch / "out/manifest.json"));
  expect_rest_is_done(scratch, toy(scratch), 6);
}

INSTANTIATE_TEST_SUITE_P(
    Table, FailingDisk,
    ::testing::Values(Failing{"segment.written:1:3:eio", ".run/segment_", "Input/output error"},
                      Failing{"journal.written:0:3:eio", ".run/journal_", "Input/output error"},
                      Failing{"file.sync:1:5:eio", ".run/", "Input/output error"},
                      Failing{"publish.h5_reserve:0:1:eio", "sums.h5", "No space left"},
                      Failing{"publish.h5_write:1:1:eio", "sums.h5", "cannot write rows"},
                      Failing{"publish.manifest:0:1:eio", "manifest.json", "Input/output error"}));

TEST(NobodyReads, AClosedStderrAndAnEndedPipeChangeNothing) {
  for (const std::string ending : {"2>&-", ">&- 2>&-", "2>&1 | head -0", "2>&1 | true"}) {
    SCOPED_TRACE(ending);
    const Scratch scratch;
    write_text(scratch / "in.tsv", toy_lines(kItems));
    std::string line = "set -o pipefail;";
    for (const auto& word : toy(scratch)) line += " '" + word + "'";
    const auto outcome = run({"bash", "-c", line + " " + ending});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
    expect_toy_results(scratch, kItems);
  }
}

}  // namespace
}  // namespace muster::test
