// SPDX-License-Identifier: Apache-2.0
#include "muster/comm/watchdog.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <thread>

#include "comm/board.h"
#include "comm/hang_verdict.h"
#include "muster/core/clock.h"
#include "support/child_process.h"

namespace muster::comm {
namespace {

using test::ChildProcess;
using test::TemporaryFolder;

template <class Condition>
bool soon(const Condition& condition) {
  const double end = core::monotonic_seconds() + 10;
  while (!condition()) {
    if (core::monotonic_seconds() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

RankPlace place_of(int rank, int size, const std::string& host = "here") {
  RankPlace place;
  place.rank = rank;
  place.size = size;
  place.host = host;
  place.job = 42;
  return place;
}

WatchdogConfig quick(const TemporaryFolder& folder) {
  WatchdogConfig config;
  config.board_path = folder.path() + "/beats";
  config.tick_seconds = 0.02;
  config.hang_seconds = std::numeric_limits<double>::infinity();
  return config;
}

// ---- the board ----

TEST(Board, KeepsAllFieldsAndCutsLongTexts) {
  const TemporaryFolder folder;
  Board board(folder.path() + "/beats", 1, 3, 42);
  Beat beat;
  beat.counter = 5;
  beat.steps = 6;
  beat.done = 7;
  beat.busy_seconds = 1.5;
  beat.step_seconds = 2.5;
  beat.work = std::uint64_t{1} << 50;
  beat.pid = 1234;
  beat.waiting = true;
  beat.host = "node7";
  beat.phase = "encode";
  beat.what = std::string(1000, 'x');
  ASSERT_TRUE(board.write(beat));
  const auto beats = board.read();
  ASSERT_EQ(beats.size(), 3u);
  const Beat& read = beats[1];
  EXPECT_EQ(std::tie(read.counter, read.steps, read.done, read.busy_seconds, read.step_seconds, read.work,
                     read.pid, read.waiting, read.host, read.phase),
            std::tie(beat.counter, beat.steps, beat.done, beat.busy_seconds, beat.step_seconds, beat.work,
                     beat.pid, beat.waiting, beat.host, beat.phase));
  EXPECT_GT(read.what.size(), 200u);
  EXPECT_EQ(beats[0].counter, 0u);
  EXPECT_EQ(beats[2].counter, 0u);
}

TEST(Board, ATornOrForeignSlotCountsAsMissing) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/beats";
  Beat beat;
  beat.counter = 9;
  Board mine(path, 0, 2, 42), foreign(path, 1, 2, 41);
  ASSERT_TRUE(mine.write(beat) && foreign.write(beat));
  EXPECT_EQ(mine.read()[0].counter, 9u);
  EXPECT_EQ(mine.read()[1].counter, 0u) << "a slot of an earlier run";
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(100).put('!');
  file.close();
  EXPECT_EQ(mine.read()[0].counter, 0u) << "a damaged slot";
}

// ---- the verdict ----

Beat live(std::uint64_t counter, double step_seconds, bool waiting) {
  Beat beat;
  beat.counter = counter;
  beat.step_seconds = step_seconds;
  beat.waiting = waiting;
  beat.host = "node7";
  beat.pid = 77;
  beat.phase = "encode";
  beat.what = waiting ? "gather" : "batch 17";
  return beat;
}

struct VerdictCase {
  const char* name;
  std::vector<Beat> before, now;  ///< rank 0 asks; its limit is 10 s
  int blamed;                     ///< -1: nobody
  const char* text;
};

class HangVerdicts : public testing::TestWithParam<VerdictCase> {};

const auto kWait = [](std::uint64_t counter, double seconds) { return live(counter, seconds, true); };
const auto kWork = [](std::uint64_t counter, double seconds) { return live(counter, seconds, false); };

INSTANTIATE_TEST_SUITE_P(
    Table, HangVerdicts,
    testing::Values(
        VerdictCase{"StoppedRank",
                    {kWait(5, 11), kWait(5, 11), kWork(5, 3)},
                    {kWait(8, 12), kWait(8, 12), kWork(5, 3)},
                    2,
                    "rank 2/3 on node7 (pid 77) does not respond: stopped, dead or cut off; last seen in "
                    "phase encode, batch 17"},
        VerdictCase{"TwoStoppedRanks",
                    {kWait(5, 11), kWait(5, 11), kWork(5, 3)},
                    {kWait(8, 12), kWait(5, 11), kWork(5, 3)},
                    1,
                    "(2 ranks are silent)"},
        VerdictCase{
            "NeverReported", {kWait(5, 11), Beat()}, {kWait(8, 12), Beat()}, 1, "rank 1/2 never reported"},
        VerdictCase{"StuckRank",
                    {kWait(5, 11), kWork(5, 13), kWork(5, 12)},
                    {kWait(8, 11), kWork(8, 14), kWork(8, 13)},
                    1,
                    "rank 1/3 on node7 (pid 77) hangs in phase encode, batch 17 for 14"},
        VerdictCase{"ItselfStuck",
                    {kWork(5, 11), kWait(5, 2)},
                    {kWork(8, 11), kWait(8, 2)},
                    0,
                    "rank 0/2 on node7 (pid 77) hangs"},
        VerdictCase{"OneStillWorks",
                    {kWait(5, 11), kWork(5, 3), kWait(5, 11)},
                    {kWait(8, 11), kWork(8, 4), kWait(8, 11)},
                    -1,
                    ""},
        VerdictCase{"AllWait",
                    {kWait(5, 11), kWait(5, 40)},
                    {kWait(8, 12), kWait(8, 41)},
                    1,
                    "waits, as all ranks do, for 41"},
        VerdictCase{"OneIsIdle",
                    {kWait(5, 11), kWait(5, 40), kWork(5, -1)},
                    {kWait(8, 12), kWait(8, 41), kWork(8, -1)},
                    2,
                    "does nothing while others wait"}),
    [](const auto& test) { return test.param.name; });

TEST_P(HangVerdicts, Names) {
  const auto verdict = judge_hang(GetParam().before, GetParam().now, 0, 10);
  ASSERT_EQ(verdict.has_value(), GetParam().blamed >= 0);
  if (!verdict) return;
  EXPECT_EQ(verdict->rank, GetParam().blamed);
  EXPECT_NE(verdict->text.find(GetParam().text), std::string::npos) << verdict->text;
}

// ---- in one process ----

TEST(Watchdog, WritesItsSlotEveryTick) {
  const TemporaryFolder folder;
  Watchdog watchdog(place_of(1, 2), quick(folder));
  watchdog.set_phase("encode");
  watchdog.step("batch 3");
  watchdog.add_progress(256, 9000, 1.25);
  ASSERT_TRUE(soon([&] { return watchdog.read_board()[1].done == 256; }));
  const Beat first = watchdog.read_board()[1];
  EXPECT_EQ(first.what, "batch 3");
  EXPECT_EQ(first.phase, "encode");
  EXPECT_EQ(first.work, 9000u);
  EXPECT_EQ(first.busy_seconds, 1.25);
  EXPECT_EQ(first.pid, ::getpid());
  EXPECT_TRUE(soon([&] { return watchdog.read_board()[1].counter > first.counter + 3; }));
  watchdog.waiting("gather");
  EXPECT_TRUE(soon([&] { return watchdog.read_board()[1].waiting; }));
  watchdog.idle();
  EXPECT_TRUE(soon([&] { return watchdog.read_board()[1].step_seconds < 0; }));
}

TEST(Watchdog, TheStopFileIsReportedOnce) {
  const TemporaryFolder folder;
  auto config = quick(folder);
  config.stop_path = folder.path() + "/stop";
  std::atomic<int> calls{0};
  config.on_stop = [&] { ++calls; };
  const Watchdog watchdog(place_of(0, 1), config);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(calls, 0);
  std::ofstream(config.stop_path) << "";
  EXPECT_TRUE(soon([&] { return calls == 1; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(calls, 1);
}

TEST(Watchdog, DeadRanksOfThisHostAreSeen) {
  const TemporaryFolder folder;
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  ::waitpid(gone, nullptr, 0);
  const pid_t zombie = ::fork();
  if (zombie == 0) ::_exit(0);
  Beat beat;
  beat.counter = 1;
  const auto put = [&](int rank, pid_t pid, const char* host) {
    beat.pid = pid;
    beat.host = host;
    Board(folder.path() + "/beats", rank, 5, 42).write(beat);
  };
  put(1, gone, "here");
  put(2, gone, "elsewhere");
  put(3, ::getpid(), "here");
  put(4, zombie, "here");
  const Watchdog watchdog(place_of(0, 5), quick(folder));
  EXPECT_TRUE(soon([&] { return watchdog.dead_ranks() == std::vector<int>{1, 4}; }));
  ::waitpid(zombie, nullptr, 0);
}

TEST(Watchdog, ACauseIsClaimedOnce) {
  const TemporaryFolder folder;
  EXPECT_TRUE(claim_once(folder.path() + "/cause"));
  EXPECT_FALSE(claim_once(folder.path() + "/cause"));
  EXPECT_TRUE(claim_once("/nonexistent/folder/cause")) << "better twice than never";
}

// ---- under mpirun ----

struct HangCase {
  const char* name;
  const char* deed;
  int code;
  const char* text;
};

class WatchdogJobs : public testing::TestWithParam<HangCase> {};
INSTANTIATE_TEST_SUITE_P(
    Table, WatchdogJobs,
    testing::Values(
        HangCase{"AStoppedRankIsNamedByOthers", "stop", 1,
                 "does not respond: stopped, dead or cut off; last seen in phase encode, batch 17"},
        HangCase{"AHangingRankIsNamed", "hang", 1, "hangs in phase encode, batch 17 (256 items)"},
        HangCase{"ADeadlockInsideMpiEnds", "deadlock", 1, "waits, as all ranks do"},
        HangCase{"ASlowRankIsLeftAlone", "slow", 0, ""}),
    [](const auto& test) { return test.param.name; });

TEST_P(WatchdogJobs, End) {
  const TemporaryFolder folder;
  const double start = core::monotonic_seconds();
  ChildProcess child(
      {test::beside_this_program("comm_probe"), "launch", "3", "rank", GetParam().deed, folder.path()});
  EXPECT_EQ(child.wait(40), GetParam().code) << child.output();
  const std::string output = child.output();
  const std::string line = "error: no progress for ";
  const auto first = output.find(line);
  if (GetParam().code == 0) {
    EXPECT_EQ(first, std::string::npos) << output;
    return;
  }
  ASSERT_NE(first, std::string::npos) << output;
  EXPECT_EQ(output.find(line, first + 1), std::string::npos) << "said twice: " << output;
  EXPECT_NE(output.find(GetParam().text), std::string::npos) << output;
  if (std::string(GetParam().deed) != "deadlock") {
    EXPECT_NE(output.find("rank 1/3 on "), std::string::npos) << output;
  }
  std::printf("%s: ended %.1f s after the start, limit 1 s\n", GetParam().name,
              core::monotonic_seconds() - start);
}

}  // namespace
}  // namespace muster::comm
