// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/recorder.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <thread>

#include "muster/core/clock.h"
#include "muster/core/strings.h"
#include "support/job.h"

namespace muster::phases {
namespace {

std::uint64_t sum(const DoublingHistogram& histogram) {
  std::uint64_t all = 0;
  for (const auto count : histogram.counts()) all += count;
  return all;
}

TEST(RecorderHistogram, HoldsAnyValuesAndAddsUpExactly) {
  DoublingHistogram small, large, both;
  for (std::uint64_t value = 0; value < 64; ++value) small.add(value);
  EXPECT_EQ(small.width(), 1u);
  for (const std::uint64_t value : {0u, 63u, 64u, 127u, 128u, 1'000'000u}) {
    large.add(value);
    both.add(value);
  }
  EXPECT_EQ(large.width(), 16384u) << "the least power of two whose 64 bins reach 1,000,000";
  for (std::uint64_t value = 0; value < 64; ++value) both.add(value);
  DoublingHistogram merged = small;
  merged.add(large);
  EXPECT_EQ(merged.counts(), both.counts());
  EXPECT_EQ(sum(merged), 70u);
  DoublingHistogram other_way = large;
  other_way.add(small);
  EXPECT_EQ(other_way.counts(), both.counts());
}

RankActivity who(int workers) {
  RankActivity who;
  who.start_utc = "2026-01-01T00:00:00.000Z";
  who.job = "toy";
  who.workers = workers;
  who.batch_budget = 100;
  who.tile = 16;
  who.expected_rate = 1e9;
  return who;
}

formats::Record failed(std::uint64_t row, const std::string& reason) {
  return failure_record(row, reason);
}

/// `count` batches of two items, 10 ms each, one behind the other.
void do_batches(Recorder& recorder, int worker, int count, double zero) {
  const std::vector<ItemView> items{{.row = 0, .length = 30}, {.row = 1, .length = 40, .truncated = true}};
  const std::vector<formats::Record> records(2);
  for (int i = 0; i < count; ++i) {
    recorder.batch_done({.worker = worker,
                         .begin = zero + 0.01 * i,
                         .end = zero + 0.01 * i + 0.008,
                         .items = items,
                         .records = records});
  }
}

RankActivity parsed(const std::string& line) {
  const auto activity = from_json_line(line);
  EXPECT_TRUE(activity.has_value()) << line.substr(0, 300);
  return activity.value_or(RankActivity{});
}

TEST(Recorder, KeepsItsAccountBoundedAndItsSumsExact) {
  const test::Scratch scratch;
  constexpr int kBatches = 10'000;
  const double zero = core::monotonic_seconds();
  Recorder recorder(
      {.who = who(2), .path = scratch / "activity.jsonl", .zero = zero, .flops = {.linear = 2}});
  do_batches(recorder, 0, 7, zero);
  do_batches(recorder, 1, kBatches, zero);
  const auto got = parsed(recorder.end("done"));
  ASSERT_EQ(got.lanes.size(), 2u);
  EXPECT_EQ(got.lanes[0].size(), 7u) << "few batches are kept one by one";
  EXPECT_LE(got.lanes[1].size(), 512u);
  EXPECT_GE(got.lanes[1].size(), 128u);
  std::uint64_t items = 0, batches = 0;
  double end = 0;
  for (const auto& span : got.lanes[1]) {
    EXPECT_GE(span.begin, end - 1e-3) << "spans stay in order and apart";
    end = span.end;
    items += span.items;
    batches += span.batches;
    EXPECT_NEAR(span.busy, 0.008 * static_cast<double>(span.batches),
                1e-3 * static_cast<double>(span.batches));
  }
  EXPECT_EQ(items, 2u * kBatches);
  EXPECT_EQ(batches, static_cast<std::uint64_t>(kBatches));
  EXPECT_EQ(got.items, 2u * (kBatches + 7));
  EXPECT_EQ(got.length, 70u * (kBatches + 7));
  EXPECT_EQ(got.tiled_length, 80u * (kBatches + 7));
  EXPECT_EQ(got.truncated, 1u * (kBatches + 7));
  EXPECT_EQ(got.fill.at(14), 1u * (kBatches + 7)) << "70 of 100 is the fifteenth twentieth";
  EXPECT_NEAR(got.flops, 2.0 * 70 * (kBatches + 7), 1);
  EXPECT_EQ(sum(got.lengths), got.items);
  EXPECT_EQ(sum(got.truncated_lengths), got.truncated);
  EXPECT_GT(got.peak_memory, 1e6);
  EXPECT_EQ(got.state, "done");
}

TEST(Recorder, SaysWhyWorkersWait) {
  const test::Scratch scratch;
  Recorder recorder({.who = who(2), .path = scratch / "activity.jsonl", .zero = core::monotonic_seconds()});
  const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(30)); };
  recorder.main_does(WaitsFor::kPreparing);
  recorder.worker_waits(0);
  recorder.worker_waits(1);
  recorder.worker_waits(1);  // once more changes nothing
  pause();                   // two wait for the preparing
  recorder.main_does(WaitsFor::kRanks);
  recorder.worker_works(0);
  pause();  // one waits for other ranks
  recorder.worker_works(1);
  pause();  // nobody waits
  recorder.worker_waits(0);
  recorder.main_does(WaitsFor::kEnd);
  pause();
  recorder.workers_end();
  pause();
  const auto got = parsed(recorder.end("done"));
  const auto waited = [&](WaitsFor what) { return got.waits[static_cast<std::size_t>(what)]; };
  const double preparing = waited(WaitsFor::kPreparing), ranks = waited(WaitsFor::kRanks),
               end = waited(WaitsFor::kEnd);
  EXPECT_GE(preparing, 0.06);
  EXPECT_GE(ranks, 0.03);
  EXPECT_GE(end, 0.03);
  EXPECT_EQ(waited(WaitsFor::kInput), 0);
  EXPECT_EQ(waited(WaitsFor::kOther), 0);
  EXPECT_LT(preparing + ranks + end, got.seconds + 0.03 + 0.02 * 2)
      << "pauses without a waiting worker are not counted";
}

TEST(Recorder, NamesSomeFailuresAndCountsAllByKind) {
  const test::Scratch scratch;
  const double zero = core::monotonic_seconds();
  Recorder recorder({.who = who(1), .path = scratch / "activity.jsonl", .zero = zero});
  const std::vector<ItemView> items(1);
  for (std::uint64_t row = 0; row < 1000; ++row) {
    const std::vector<formats::Record> records{failed(
        row, row % 4 == 0 ? "</script>\xff \"odd\"\n" : fmt::format("row {} of {} is too long", row, 1000))};
    recorder.batch_done({.worker = 0, .begin = zero, .end = zero, .items = items, .records = records});
  }
  const auto got = parsed(recorder.end("done"));
  EXPECT_EQ(got.failed, 1000u);
  ASSERT_EQ(got.first_failures.size(), 20u);
  EXPECT_EQ(got.first_failures[1].row, 1u);
  EXPECT_EQ(got.first_failures[1].reason, "row 1 of 1000 is too long");
  EXPECT_EQ(got.first_failures[0].reason, "</script>\xef\xbf\xbd \"odd\"\n");
  ASSERT_EQ(got.failure_kinds.size(), 2u);
  EXPECT_EQ(got.failure_kinds[1], (std::pair<std::string, std::uint64_t>{"row # of # is too long", 750}));
}

TEST(Recorder, KindsBeyondTheLimitAreCountedTogether) {
  std::vector<std::pair<std::string, std::uint64_t>> kinds;
  for (std::size_t i = 0; i < kMostKinds + 50; ++i) count_kind(kinds, std::string(i + 1, 'x'), 2);
  EXPECT_EQ(kinds.size(), kMostKinds + 1);
  EXPECT_EQ(kinds.back().first, "other reasons");
  EXPECT_EQ(kinds.back().second, 100u);
}

TEST(Recorder, AFileHoldsOneLineAStart) {
  const test::Scratch scratch;
  const auto path = scratch / "activity.jsonl";
  for (const char* start : {"2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z"}) {
    auto activity = who(1);
    activity.start_utc = start;
    Recorder recorder({.who = activity, .path = path, .zero = core::monotonic_seconds()});
    EXPECT_NE(test::read_text(path).find(R"("state":"running")"), std::string::npos)
        << "a start that is killed at once leaves its line";
    recorder.end("done");
  }
  const auto lines = core::split(test::read_text(path), '\n');
  ASSERT_EQ(lines.size(), 3u) << "two and an empty one";
  EXPECT_EQ(parsed(lines[0]).start_utc, "2026-01-01T00:00:00.000Z");
  EXPECT_EQ(parsed(lines[1]).start_utc, "2026-01-02T00:00:00.000Z");
  EXPECT_EQ(parsed(lines[1]).state, "done");
}

TEST(Recorder, AFileThatCannotBeWrittenIsNoError) {
  const test::Scratch scratch;
  Recorder recorder({.who = who(1), .path = scratch / "no/such/folder/activity.jsonl", .zero = 0});
  EXPECT_EQ(parsed(recorder.end("done")).state, "done");
}

TEST(Recorder, DamagedLinesAreNoAccounts) {
  const test::Scratch scratch;
  Recorder recorder({.who = who(1), .path = scratch / "activity.jsonl", .zero = 0});
  const auto line = recorder.end("done");
  ASSERT_TRUE(from_json_line(line).has_value());
  for (const auto& damaged :
       {std::string(), line.substr(0, line.size() / 2), "[" + line + "]",
        std::string(R"({"muster_activity":1})"), std::string(R"({"muster_activity":2})")}) {
    EXPECT_FALSE(from_json_line(damaged).has_value()) << damaged.substr(0, 60);
  }
}

// No bound: a figure for people. Micro-batches take milliseconds.
TEST(Recorder, CostsLittleABatch) {
  const test::Scratch scratch;
  const double zero = core::monotonic_seconds();
  Recorder recorder({.who = who(1), .path = scratch / "activity.jsonl", .zero = zero});
  const std::vector<ItemView> items(64, ItemView{.row = 0, .length = 30});
  const std::vector<formats::Record> records(64);
  constexpr int kBatches = 200'000;
  for (int i = 0; i < kBatches; ++i) {
    recorder.worker_works(0);
    const double begin = core::monotonic_seconds(), end = core::monotonic_seconds();
    recorder.batch_done({.worker = 0, .begin = begin, .end = end, .items = items, .records = records});
    recorder.saved(0);
    recorder.worker_waits(0);
  }
  fmt::print("{:.0f} ns a batch of 64 items\n", (core::monotonic_seconds() - zero) / kBatches * 1e9);
  EXPECT_EQ(parsed(recorder.end("done")).batches, static_cast<std::uint64_t>(kBatches));
}

}  // namespace
}  // namespace muster::phases
