// SPDX-License-Identifier: Apache-2.0
// Ranks and launchers killed with SIGKILL, at every named point of the program and at random times: every
// rank is gone within 3 s, the cause is said once, and a rerun with another number of ranks finishes without
// an item lost or done twice.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <regex>
#include <set>

#include "muster/core/clock.h"
#include "system.h"

namespace muster::test {
namespace {

constexpr int kItems = 400;
constexpr double kGoneWithin = 3;
// 50 batches of 8 items, at least 48 ms each: no kill below can miss the work.
const Command kSlow{"--batch-size", "8", "--milliseconds", "6", "--set", "run.window_items=120"};
const Command kFast{"--batch-size", "8", "--set", "run.window_items=120"};

/// A job that was killed: what it said and how fast its ranks went.
struct Killed {
  Outcome outcome;
  double seconds_until_gone = 0;
  int victim = -1;  ///< rank; -1: mpirun
};

Killed run_to_its_fault(int ranks, const Command& command, const std::string& fault, int victim) {
  Job job(mpirun(ranks) + command, {{"MUSTER_FAULT", fault}});
  const Ranks family = wait_for_ranks(job, "muster_toy", ranks);
  Killed killed{.outcome = {}, .seconds_until_gone = seconds_until_gone(family), .victim = victim};
  killed.outcome = job.wait(20);
  return killed;
}

void expect_a_clean_end(const Scratch& scratch, const Killed& killed, int ranks) {
  EXPECT_NE(killed.outcome.exit_code, 0) << "the kill missed: " << killed.outcome.output;
  EXPECT_FALSE(killed.outcome.timed_out) << killed.outcome.output;
  EXPECT_FALSE(exists(scratch / "out/manifest.json")) << "the job had finished before the kill";
  EXPECT_LE(killed.seconds_until_gone, kGoneWithin) << killed.outcome.output;
  if (killed.victim < 0 || ranks == 1) return;  // nobody is left to say it
  EXPECT_EQ(count_of(killed.outcome.output, "is gone"), 1) << killed.outcome.output;
  EXPECT_TRUE(killed.outcome.contains(fmt::format("rank {} is gone", killed.victim)))
      << killed.outcome.output;
}

void expect_rest_is_done(const Scratch& scratch, int ranks, int at_least) {
  const Command rest = toy(scratch, kFast);
  const auto outcome = run(ranks == 1 ? rest : mpirun(ranks) + rest);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const int saved = resumed_items(outcome).value_or(0);
  EXPECT_GE(saved, at_least) << outcome.output;
  EXPECT_EQ(done_items(outcome).value_or(-1), kItems - saved)
      << "what was saved is not done again: " << outcome.output;
  expect_toy_results(scratch, kItems);
  EXPECT_FALSE(exists(scratch / "out/.run"));
}

/// A point of the program, the rank that dies there and the time it passes.
struct Point {
  const char* name;
  int rank;
  int count;
  int least_saved;  ///< items that must not be done again
};

void PrintTo(const Point& point, std::ostream* out) {
  *out << point.name;
}

const std::vector<Point>& points() {
  // The second commit of a rank comes after its first is safe; the seventh batch after several commits; later
  // windows are dealt when earlier ones are nearly done; and when something is published everything was
  // saved.
  static const auto* table = new std::vector<Point>{{"segment.before_write", 1, 3, 8},
                                                    {"segment.written", 0, 3, 8},
                                                    {"segment.synced", 1, 3, 8},
                                                    {"journal.written", 0, 2, 8},
                                                    {"journal.synced", 1, 2, 16},
                                                    {"worker.before_batch", 1, 7, 16},
                                                    {"worker.run", 0, 7, 16},
                                                    {"worker.after_batch", 1, 7, 16},
                                                    {"window.scatter", 0, 3, 16},
                                                    {"window.deal", 1, 3, 16},
                                                    {"publish.begin", 1, 1, kItems},
                                                    {"publish.h5_reserve", 0, 1, kItems},
                                                    {"publish.h5_created", 1, 1, kItems},
                                                    {"publish.h5_write", 1, 1, kItems},
                                                    {"publish.h5_closed", 0, 1, kItems},
                                                    {"publish.end", 0, 1, kItems},
                                                    {"publish.manifest", 0, 1, kItems},
                                                    {"publish.before_rename", 0, 5, kItems},
                                                    {"publish.after_rename", 0, 5, kItems},
                                                    {"file.write", 1, 5, 16},
                                                    {"file.sync", 1, 5, 16}};
  return *table;
}

class KillAtPoint : public ::testing::TestWithParam<Point> {};

TEST_P(KillAtPoint, TheRestIsDoneOnce) {
  const auto& point = GetParam();
  // Different rank counts in every row, the same ones in every run.
  const auto place = static_cast<int>(std::string(point.name).size());
  const int before = 2 + place % 3, after = 1 + place % 4;
  const Scratch scratch;
  write_text(scratch / "in.tsv", toy_lines(kItems));
  const auto killed =
      run_to_its_fault(before, toy(scratch, kSlow),
                       fmt::format("{}:{}:{}:kill", point.name, point.rank, point.count), point.rank);
  expect_a_clean_end(scratch, killed, before);
  expect_rest_is_done(scratch, after, point.least_saved);
}

INSTANTIATE_TEST_SUITE_P(Table, KillAtPoint, ::testing::ValuesIn(points()), [](const auto& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

TEST(Kill, TheTableHoldsEveryPointOfTheProgram) {
  std::set<std::string> known, found;
  for (const auto& point : points()) known.insert(point.name);
  for (const auto& point : training_points()) known.insert(point);  // train_test.cpp
  known.insert("publish.csv_written");                              // infer_test.cpp
  known.insert({"sample.picture_written", "publish.h5_serial"});    // sample_test.cpp
  const std::regex call("fault_point\\(\"([a-z0-9_.]+)\"");
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source_file("src"))) {
    if (entry.path().extension() != ".cpp") continue;
    const std::string text = read_text(entry.path());
    for (std::sregex_iterator at(text.begin(), text.end(), call), end; at != end; ++at)
      found.insert((*at)[1]);
  }
  EXPECT_EQ(known, found) << "a point without a row here is never killed at";
}

TEST(Kill, TwiceInARow) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", toy_lines(kItems));
  const auto first = run_to_its_fault(3, toy(scratch, kSlow), "journal.synced:2:2:kill", 2);
  expect_a_clean_end(scratch, first, 3);
  const auto second = run_to_its_fault(2, toy(scratch, kSlow), "worker.before_batch:1:4:kill", 1);
  expect_a_clean_end(scratch, second, 2);
  EXPECT_GE(resumed_items(second.outcome).value_or(0), 8) << second.outcome.output;
  expect_rest_is_done(scratch, 4, resumed_items(second.outcome).value_or(0) + 8);
}

// The table of a finished job with one failed item stays as it was until the new one is whole, and a rerun
// repairs whatever a kill left between the two.
class KillInPublish : public ::testing::TestWithParam<const char*> {};

TEST_P(KillInPublish, TheOldResultStaysUntilTheNewOneIs) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", toy_lines(50) + "evil\tbad item\n");
  ASSERT_EQ(run(toy(scratch)).exit_code, 4);
  const std::string old_table = read_text(scratch / "out/sums.h5");
  const auto killed = run(mpirun(2) + toy(scratch, {"--retry-failed"}),
                          {{"MUSTER_FAULT", std::string(GetParam()) + ":0:1:kill"}});
  ASSERT_NE(killed.exit_code, 0) << killed.output;
  ASSERT_NE(killed.exit_code, 4) << "the kill missed: " << killed.output;
  const bool replaced =
      std::string(GetParam()) == "publish.end" || std::string(GetParam()) == "publish.manifest";
  EXPECT_EQ(read_text(scratch / "out/sums.h5") == old_table, !replaced);
  expect_toy_results(scratch, 50);
  const auto rest = run(toy(scratch));
  EXPECT_EQ(rest.exit_code, 4) << rest.output;
  const auto verified = run({toy_program(), "verify", scratch / "out"});
  EXPECT_EQ(verified.exit_code, 0) << verified.output;
}

INSTANTIATE_TEST_SUITE_P(Table, KillInPublish,
                         ::testing::Values("publish.h5_write", "publish.h5_closed", "publish.end",
                                           "publish.manifest"));

/// Kills a random rank, or mpirun, a random time after the first results were saved.
Killed kill_at_random(core::Philox& random, int ranks, const Command& command, const std::string& directory) {
  Job job(mpirun(ranks) + command);
  const Ranks family = wait_for_ranks(job, "muster_toy", ranks);
  if (!wait_for_commit(job, directory)) ADD_FAILURE() << "nothing was saved: " << job.output();
  sleep_ms(random.next_below(500));
  const auto choice = static_cast<int>(random.next_below(static_cast<std::uint64_t>(ranks) + 1));
  Killed killed;
  killed.victim = choice < ranks ? choice : -1;
  const double since = core::monotonic_seconds();
  ::kill(killed.victim >= 0 ? family.pids.at(static_cast<std::size_t>(killed.victim)) : job.pid(), SIGKILL);
  killed.seconds_until_gone = seconds_until_gone(family, since);
  killed.outcome = job.wait(20);
  return killed;
}

TEST(Kill, AtRandomTimes) {
  const std::uint64_t seed = 20261121;
  const int kills = long_form() ? 60 : 4;
  int launchers = 0;
  double slowest = 0;
  fmt::print("seed {}, {} kills\n", seed, kills);
  for (int trial = 0; trial < kills; ++trial) {
    SCOPED_TRACE(fmt::format("trial {}", trial));
    core::Philox random(seed, static_cast<std::uint64_t>(trial));
    const Scratch scratch;
    write_text(scratch / "in.tsv", toy_lines(kItems));
    const int before = 1 + static_cast<int>(random.next_below(4)),
              after = 1 + static_cast<int>(random.next_below(4));
    // Work for four seconds on any number of ranks: when mpirun is killed its ranks go on for one more.
    const Command slower{"--batch-size",        "8", "--milliseconds", std::to_string(10 * before), "--set",
                         "run.window_items=120"};
    const auto killed = kill_at_random(random, before, toy(scratch, slower), scratch / "out");
    launchers += killed.victim < 0;
    slowest = std::max(slowest, killed.seconds_until_gone);
    expect_a_clean_end(scratch, killed, before);
    expect_rest_is_done(scratch, after, 8);
    if (HasFailure()) return;
  }
  fmt::print("{} times mpirun itself; the slowest end took {:.2f} s\n", launchers, slowest);
}

}  // namespace
}  // namespace muster::test
