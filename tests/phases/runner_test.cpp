// SPDX-License-Identifier: Apache-2.0
// The item runner, seen through the toy phase and the program's own command line.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>

#include "muster/core/digest.h"
#include "muster/io/hdf5_results.h"
#include "muster/io/run_directory.h"
#include "support/job.h"

namespace muster::test {
namespace {

std::string text_of(int item) {
  return "text number " + std::to_string(item) + std::string(static_cast<std::size_t>(item % 37), 'x');
}

std::string lines(int count) {
  std::string all;
  for (int item = 0; item < count; ++item) all += "id" + std::to_string(item) + "\t" + text_of(item) + "\n";
  return all;
}

Command toy(const Scratch& scratch, const Command& more = {}) {
  write_text(scratch / "job.yaml", "job: toy\nmodel: {path: none}\nrun: {workers: 1}\n");
  return Command{toy_program(),      "run", scratch / "job.yaml", "-i",
                 scratch / "in.tsv", "-o",  scratch / "out"} +
         more;
}

std::vector<std::int32_t> sums(const Scratch& scratch) {
  const io::H5Reader reader(scratch / "out/sums.h5");
  return reader.read_i32("/sums", 0, reader.shape("/sums").at(0));
}

std::vector<std::string> ids(const Scratch& scratch) {
  const io::H5Reader reader(scratch / "out/sums.h5");
  return reader.read_strings("/ids", 0, reader.shape("/ids").at(0));
}

void expect_sums_of(const Scratch& scratch, int count) {
  const auto all = sums(scratch);
  const auto names = ids(scratch);
  ASSERT_EQ(all.size(), static_cast<std::size_t>(count));
  for (int item = 0; item < count; ++item) {
    EXPECT_EQ(all[static_cast<std::size_t>(item)], static_cast<std::int32_t>(core::crc32c(text_of(item))))
        << item;
    EXPECT_EQ(names[static_cast<std::size_t>(item)], "id" + std::to_string(item));
  }
}

struct Shape {
  int items;
  int ranks;
  const char* schedule;
};

class RunnerShapes : public ::testing::TestWithParam<Shape> {};

TEST_P(RunnerShapes, EveryItemOnceInInputOrder) {
  const auto& shape = GetParam();
  const Scratch scratch;
  write_text(scratch / "in.tsv", lines(shape.items));
  const auto outcome =
      run(mpirun(shape.ranks) + toy(scratch, {"--schedule", shape.schedule, "--set", "run.window_items=40"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  expect_sums_of(scratch, shape.items);
  EXPECT_FALSE(exists(scratch / "out/.run")) << "a finished job leaves no working files";
}

INSTANTIATE_TEST_SUITE_P(Table, RunnerShapes,
                         ::testing::Values(Shape{0, 1, "balanced"}, Shape{0, 3, "balanced"},
                                           Shape{1, 4, "balanced"}, Shape{3, 4, "ceil"},
                                           Shape{4, 4, "dynamic"}, Shape{5, 4, "ceil"},
                                           Shape{97, 1, "dynamic"}, Shape{97, 2, "balanced"},
                                           Shape{97, 3, "dynamic"}, Shape{97, 4, "ceil"},
                                           Shape{97, 4, "balanced"}));

TEST(Runner, BadRowsAreListedAndTheRestIsDone) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", "a\tone\nbroken row\nb\ttwo\na\tthe id again\n");
  const auto outcome = run(toy(scratch));
  EXPECT_EQ(outcome.exit_code, 4) << outcome.output;
  EXPECT_EQ(ids(scratch), (std::vector<std::string>{"a", "b"}));
  const auto rejects = read_text(scratch / "out/rejects.jsonl");
  EXPECT_NE(rejects.find("\"line\":2"), std::string::npos) << rejects;
  EXPECT_NE(rejects.find("\"line\":4"), std::string::npos) << rejects;
  EXPECT_NE(rejects.find("line 1 of"), std::string::npos)
      << "a duplicate names the line of the first: " << rejects;
}

TEST(Runner, MaxFailuresTurnsFourIntoZero) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", "a\tone\nbroken row\nb\ttwo\n");
  EXPECT_EQ(run(toy(scratch, {"--max-failures", "1"})).exit_code, 0);
}

TEST(Runner, StrictRefusesBeforeAnyWork) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", "a\tone\nbroken row\n");
  const auto outcome = run(toy(scratch, {"--strict"}));
  EXPECT_EQ(outcome.exit_code, 3) << outcome.output;
  EXPECT_FALSE(exists(scratch / "out/sums.h5"));
}

TEST(Runner, OneBadItemIsListedAndOthersGoOn) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", lines(20) + "evil\tbad item\nforeign\tforeign error\n");
  const auto outcome = run(mpirun(2) + toy(scratch));
  EXPECT_EQ(outcome.exit_code, 4) << outcome.output;
  expect_sums_of(scratch, 20);
  const auto failures = read_text(scratch / "out/failures.jsonl");
  EXPECT_NE(failures.find("\"id\":\"evil\""), std::string::npos) << failures;
  EXPECT_NE(failures.find("this item is bad"), std::string::npos) << failures;
  EXPECT_NE(failures.find("\"id\":\"foreign\""), std::string::npos) << failures;
  EXPECT_EQ(std::count(failures.begin(), failures.end(), '\n'), 2);
}

TEST(Runner, OutOfMemoryHalvesTheBatchAndGoesOn) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", lines(30) + "big\tbig item\n");
  const auto outcome = run(toy(scratch, {"--batch-size", "8"}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(sums(scratch).size(), 31u);
  EXPECT_TRUE(outcome.contains("halved")) << outcome.output;
}

TEST(Runner, OutOfMemoryForOneItemNamesRankAndBytes) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", lines(10) + "huge\tendless item\n");
  const auto outcome = run(mpirun(2) + toy(scratch));
  EXPECT_EQ(outcome.exit_code, 6) << outcome.output;
  EXPECT_TRUE(outcome.contains("1.0 TiB asked for")) << outcome.output;
  EXPECT_TRUE(outcome.contains("rank ")) << outcome.output;
}

TEST(Runner, AJobWhoseItemsAllFailGivesUp) {
  const Scratch scratch;
  std::string all;
  for (int i = 0; i < 300; ++i) all += std::to_string(i) + "\tbad item\n";
  write_text(scratch / "in.tsv", all);
  const auto outcome = run(toy(scratch));
  EXPECT_EQ(outcome.exit_code, 3) << outcome.output;
  EXPECT_TRUE(outcome.contains("this item is bad")) << outcome.output;
}

TEST(Runner, AFinishedJobSaysSoAndFreshStartsOver) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", lines(5));
  ASSERT_EQ(run(toy(scratch)).exit_code, 0);
  const auto again = run(toy(scratch));
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_TRUE(again.contains("finished already")) << again.output;
  const auto fresh = run(toy(scratch, {"--fresh"}));
  EXPECT_EQ(fresh.exit_code, 0);
  EXPECT_TRUE(fresh.contains("5 texts")) << fresh.output;
}

TEST(Runner, AnotherInputIsRefused) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", lines(5));
  ASSERT_EQ(run(toy(scratch)).exit_code, 0);
  write_text(scratch / "in.tsv", lines(6));
  const auto outcome = run(mpirun(2) + toy(scratch));
  EXPECT_EQ(outcome.exit_code, 5) << outcome.output;
  EXPECT_TRUE(outcome.contains("input.sha256")) << outcome.output;
  EXPECT_TRUE(outcome.contains("--fresh")) << outcome.output;
}

TEST(Runner, ARefusedStartLeavesTheFinishedResultAsItIs) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", lines(5) + "broken row\n");
  ASSERT_EQ(run(toy(scratch)).exit_code, 4);
  const auto rejects = read_text(scratch / "out/rejects.jsonl"),
             resolved = read_text(scratch / "out/resolved.yaml");
  write_text(scratch / "in.tsv", lines(6));
  ASSERT_EQ(run(toy(scratch)).exit_code, 5);
  EXPECT_EQ(read_text(scratch / "out/rejects.jsonl"), rejects);
  EXPECT_EQ(read_text(scratch / "out/resolved.yaml"), resolved);
}

// Rank 0 serves the others from a thread that its unwinding must not wait for.
TEST(Runner, AThrowingRankZeroEndsADynamicJobAtOnce) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", lines(100));
  const auto outcome =
      Job(mpirun(3) + toy(scratch, {"--schedule", "dynamic"}), {{"MUSTER_FAULT", "window.scatter:0:1:throw"}})
          .wait(20);
  EXPECT_EQ(outcome.exit_code, 1) << outcome.output;
  EXPECT_TRUE(outcome.contains("planted fault at window.scatter")) << outcome.output;
}

TEST(Runner, LimitTakesTheFirstItems) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", lines(50));
  ASSERT_EQ(run(toy(scratch, {"--limit", "7"})).exit_code, 0);
  expect_sums_of(scratch, 7);
}

TEST(Runner, MaxTimeStopsSavedAndARerunFinishes) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", lines(200));
  const Command slow{"--milliseconds", "20", "--batch-size", "4"};
  const auto stopped = run(mpirun(2) + toy(scratch, slow + Command{"--max-time", "1s"}));
  EXPECT_EQ(stopped.exit_code, 75) << stopped.output;
  const auto rest = run(mpirun(3) + toy(scratch, {"--batch-size", "4"}));
  EXPECT_EQ(rest.exit_code, 0) << rest.output;
  EXPECT_TRUE(rest.contains("resuming: ")) << rest.output;
  EXPECT_FALSE(rest.contains("resuming: 0 of")) << rest.output;
  expect_sums_of(scratch, 200);
}

TEST(Runner, RetryFailedDoesOnlyThose) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", lines(10) + "evil\tbad item\n");
  ASSERT_EQ(run(toy(scratch)).exit_code, 4);
  const auto again = run(toy(scratch, {"--retry-failed"}));
  EXPECT_EQ(again.exit_code, 4) << again.output;
  EXPECT_TRUE(again.contains("10 of 11 texts are done, 1 to do")) << again.output;
}

TEST(Runner, DryRunWritesNothing) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", lines(10));
  const auto outcome = run(toy(scratch, {"--dry-run"}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(outcome.contains("micro-batches")) << outcome.output;
  EXPECT_FALSE(exists(scratch / "out"));
}

TEST(Runner, MetricsHoldTheBusyTimeOfEveryRank) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", lines(20));
  ASSERT_EQ(run(mpirun(3) + toy(scratch)).exit_code, 0);
  const auto metrics = read_text(scratch / "out/metrics.jsonl");
  for (const char* rank :
       {"\"rank\":0,\"step\":0,\"name\":\"busy\"", "\"rank\":1,\"step\":0,\"name\":\"busy\"",
        "\"rank\":2,\"step\":0,\"name\":\"busy\""}) {
    EXPECT_NE(metrics.find(rank), std::string::npos) << metrics;
  }
}

}  // namespace
}  // namespace muster::test
