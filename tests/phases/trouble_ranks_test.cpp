// SPDX-License-Identifier: Apache-2.0
// The contract's table of trouble, its lines about ranks: one that throws, hangs, is stopped; signals; time
// limits.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <unistd.h>
#include <algorithm>
#include <csignal>

#include "muster/core/clock.h"
#include "system.h"

namespace muster::test {
namespace {

constexpr int kItems = 300;
const Command kSlow{"--batch-size", "6", "--milliseconds", "6", "--set", "run.window_items=90"};
// 30 batches a rank of 240 ms each: still at work long after the board was last written, and after mpirun,
// which waits a second between a Ctrl-C and the end of its ranks.
const Command kVerySlow{"--batch-size", "6", "--milliseconds", "40"};

class TroubleOfRanks : public ::testing::Test {
 protected:
  void SetUp() override { write_text(scratch_ / "in.tsv", toy_lines(kItems)); }

  void expect_rest_is_done(int ranks, int least_saved) {
    const auto rest = run(mpirun(ranks) + toy(scratch_, {"--batch-size", "6"}));
    ASSERT_EQ(rest.exit_code, 0) << rest.output;
    const int saved = resumed_items(rest).value_or(0);
    EXPECT_GE(saved, least_saved) << rest.output;
    EXPECT_EQ(done_items(rest).value_or(-1), kItems - saved)
        << "what was saved is not done again: " << rest.output;
    expect_toy_results(scratch_, kItems);
  }

  Scratch scratch_;
};

TEST_F(TroubleOfRanks, ARankThatThrowsIsNamedOnceAndAllEnd) {
  Job job(mpirun(3) + toy(scratch_, kSlow), {{"MUSTER_FAULT", "worker.run:1:4:throw"}});
  const Ranks ranks = wait_for_ranks(job, "muster_toy", 3);
  ASSERT_TRUE(job.wait_for("planted fault", 20)) << job.output();
  EXPECT_LE(seconds_until_gone(ranks, core::monotonic_seconds()), 3);
  const auto outcome = job.wait(20);
  EXPECT_EQ(outcome.exit_code, 1) << outcome.output;
  EXPECT_EQ(count_of(outcome.output, "planted fault at worker.run"), 1) << outcome.output;
  EXPECT_TRUE(outcome.contains("rank 1")) << outcome.output;
  EXPECT_FALSE(outcome.contains("is gone"))
      << "the consequence must not be taken for the cause: " << outcome.output;
  expect_rest_is_done(2, 12);
}

TEST_F(TroubleOfRanks, AStoppedRankIsNamedByTheOthers) {
  Job job(mpirun(3) + toy(scratch_, kVerySlow + Command{"--hang-timeout", "2s"}),
          {{"MUSTER_FAULT", "worker.run:1:6:stop"}});
  const Ranks ranks = wait_for_ranks(job, "muster_toy", 3);
  ASSERT_EQ(ranks.pids.size(), 3u);
  const auto outcome = job.wait(30);
  EXPECT_FALSE(outcome.timed_out);
  EXPECT_EQ(outcome.exit_code, 1) << outcome.output;
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  EXPECT_TRUE(outcome.contains(fmt::format("rank 1/3 on {} (pid {})", host, ranks.pids[1])))
      << outcome.output;
  EXPECT_TRUE(outcome.contains("phase toy, batch")) << outcome.output;
  EXPECT_EQ(count_of(outcome.output, "no progress for"), 1) << outcome.output;
  EXPECT_LE(seconds_until_gone(ranks, core::monotonic_seconds()), 3);
  expect_rest_is_done(2, 12);
}

TEST_F(TroubleOfRanks, ABatchThatNeverEndsIsNamed) {
  const auto outcome = run(mpirun(2) + toy(scratch_, kSlow + Command{"--hang-timeout", "2s"}),
                           {{"MUSTER_FAULT", "worker.run:1:4:hang"}}, 30);
  EXPECT_FALSE(outcome.timed_out);
  EXPECT_EQ(outcome.exit_code, 1) << outcome.output;
  EXPECT_TRUE(outcome.contains("rank 1/2 on ")) << outcome.output;
  EXPECT_TRUE(outcome.contains("phase toy, batch")) << outcome.output;
  EXPECT_EQ(count_of(outcome.output, "no progress for"), 1) << outcome.output;
  expect_rest_is_done(1, 12);
}

TEST_F(TroubleOfRanks, ASlowBatchWithinTheLimitIsNoHang) {
  const auto outcome = run(mpirun(2) + toy(scratch_, {"--limit", "12", "--batch-size", "6", "--milliseconds",
                                                      "300", "--hang-timeout", "4s"}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  expect_toy_results(scratch_, 12);
}

/// A way to start a job and the process that gets its signals.
struct Start {
  const char* name;
  bool self_launched;  ///< `-n RANKS` without mpirun
};

void PrintTo(const Start& start, std::ostream* out) {
  *out << start.name;
}

class Signals : public TroubleOfRanks, public ::testing::WithParamInterface<Start> {
 protected:
  Command start(int ranks, const Command& more) const {
    const Command job = toy(scratch_, more);
    return GetParam().self_launched ? job + Command{"-n", std::to_string(ranks)} : mpirun(ranks) + job;
  }
  std::string toy_name() const { return "muster_toy"; }
};

// One job, stopped again and again at random times; what it saved adds up to all of it.
TEST_P(Signals, Usr1AndUsr2StopSavedAtAnyTime) {
  const std::uint64_t seed = 7001 + GetParam().self_launched;
  const int stops = long_form() ? 25 : 5;
  fmt::print("seed {}, {} stops\n", seed, stops);
  int saved = 0;
  for (int trial = 0; trial < stops; ++trial) {
    SCOPED_TRACE(fmt::format("trial {}", trial));
    core::Philox random(seed, static_cast<std::uint64_t>(trial));
    const int ranks = 2 + static_cast<int>(random.next_below(3));
    // Slow enough that the job never ends before the last signal.
    Job job(start(ranks, {"--batch-size", "1", "--milliseconds", std::to_string(long_form() ? 350 : 120),
                          "--schedule", trial % 2 == 0 ? "balanced" : "dynamic"}));
    const Ranks all = wait_for_ranks(job, toy_name(), ranks);
    const int signal = random.next_below(2) == 0 ? SIGUSR1 : SIGUSR2;
    // Before main has begun nobody can take a signal; from then on it may come at any time.
    ASSERT_TRUE(wait_for([&] { return all.block(signal); }, 20)) << job.output();
    sleep_ms(random.next_below(900));
    job.signal(signal);
    const auto outcome = job.wait(30);
    ASSERT_EQ(outcome.exit_code, 75) << outcome.output;
    EXPECT_TRUE(outcome.contains("stopped on request")) << outcome.output;
    EXPECT_LE(seconds_until_gone(all, core::monotonic_seconds()), 3);
    const int before = resumed_items(outcome).value_or(0);
    EXPECT_GE(before, saved) << "what was saved stays saved: " << outcome.output;
    saved = before;
  }
  expect_rest_is_done(2, std::max(saved, 1));
}

TEST_P(Signals, CtrlCAndTermEndTheRanksAndARerunFinishes) {
  for (const int signal : {SIGINT, SIGTERM}) {
    SCOPED_TRACE(fmt::format("signal {}", signal));
    const Scratch scratch;
    write_text(scratch / "in.tsv", toy_lines(kItems));
    const Command one = toy(scratch, kVerySlow);
    Job job(GetParam().self_launched ? one + Command{"-n", "2"} : mpirun(2) + one);
    const Ranks ranks = wait_for_ranks(job, toy_name(), 2);
    ASSERT_TRUE(wait_for_commit(job, scratch / "out")) << job.output();
    const double since = core::monotonic_seconds();
    job.signal(signal);
    EXPECT_LE(seconds_until_gone(ranks, since), 3);
    const auto outcome = job.wait(20);
    EXPECT_NE(outcome.exit_code, 0) << outcome.output;
    if (GetParam().self_launched) {
      EXPECT_EQ(outcome.exit_code, 128 + signal) << outcome.output;
    }
    EXPECT_FALSE(outcome.contains("is gone")) << "nobody died of its own: " << outcome.output;
    const auto rest = run(mpirun(3) + toy(scratch));
    ASSERT_EQ(rest.exit_code, 0) << rest.output;
    EXPECT_GT(resumed_items(rest).value_or(0), 0) << rest.output;
    expect_toy_results(scratch, kItems);
  }
}

INSTANTIATE_TEST_SUITE_P(Table, Signals,
                         ::testing::Values(Start{"mpirun", false}, Start{"self_launched", true}),
                         [](const auto& info) { return info.param.name; });

TEST_F(TroubleOfRanks, OneRankAloneTakesTheSameSignals) {
  Job job(toy(scratch_, kSlow));
  ASSERT_TRUE(wait_for_commit(job, scratch_ / "out")) << job.output();
  job.signal(SIGUSR1);
  EXPECT_EQ(job.wait(20).exit_code, 75);
  Job again(toy(scratch_, kSlow));
  ASSERT_TRUE(again.wait_for("resuming", 20)) << again.output();
  again.signal(SIGINT);
  EXPECT_EQ(again.wait(20).exit_code, 130);
  expect_rest_is_done(2, 6);
}

}  // namespace
}  // namespace muster::test
