// SPDX-License-Identifier: Apache-2.0
// The same job gives the same bytes, however it is cut, dealt, batched and read.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>

#include "muster/nn/linear.h"
#include "system.h"

namespace muster::test {
namespace {

constexpr std::size_t kDocuments = 400;

/// One way to run the job, against one rank with one worker and the default batches.
struct Way {
  std::string name;
  int ranks;  ///< 1: without mpirun
  Command flags;
};

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.name;
}

Outcome run_way(const Scratch& scratch, const std::string& dtype, const Way& way) {
  const Command command = encode(scratch, way.flags + Command{"--dtype", dtype});
  return run(way.ranks == 1 ? command : mpirun(way.ranks) + command);
}

/// What one plain rank makes of the sample, computed once a type.
const Embeddings& reference(const std::string& dtype) {
  static std::map<std::string, Embeddings> known;
  if (!known.contains(dtype)) {
    const Scratch scratch;
    write_text(scratch / "in.tsv", as_tsv(sample(kDocuments)));
    const auto outcome = run_way(scratch, dtype, {.name = "reference", .ranks = 1, .flags = {}});
    if (outcome.exit_code != 0) throw std::runtime_error("the reference run failed: " + outcome.output);
    known[dtype] = read_embeddings(scratch / "out");
  }
  return known.at(dtype);
}

const std::vector<Way>& ways() {
  static const auto* table = new std::vector<Way>{
      {"one_rank_two_workers", 1, {"--workers", "2"}},
      {"one_rank_dynamic", 1, {"--schedule", "dynamic"}},
      {"two_ranks_balanced", 2, {"--schedule", "balanced"}},
      {"two_ranks_two_workers", 2, {"--workers", "2", "--batch-tokens", "300"}},
      {"two_ranks_ceil", 2, {"--schedule", "ceil", "--batch-tokens", "100"}},
      {"two_ranks_small_windows", 2, {"--set", "run.window_items=37"}},
      {"three_ranks_dynamic_two_workers",
       3,
       {"--schedule", "dynamic", "--workers", "2", "--batch-tokens", "257"}},
      {"three_ranks_one_item_batches", 3, {"--batch-size", "1"}},
      {"four_ranks_balanced_small_windows", 4, {"--set", "run.window_items=101", "--batch-tokens", "1000"}},
      {"four_ranks_dynamic_small_windows", 4, {"--schedule", "dynamic", "--set", "run.window_items=64"}},
      {"four_ranks_ceil_seven_an_item", 4, {"--schedule", "ceil", "--batch-size", "7"}},
  };
  return *table;
}

class EncodeInvariance : public ::testing::TestWithParam<std::tuple<const char*, Way>> {};

TEST_P(EncodeInvariance, SameBytes) {
  const auto& [dtype, way] = GetParam();
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(kDocuments)));
  const auto outcome = run_way(scratch, dtype, way);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const auto result = read_embeddings(scratch / "out");
  ASSERT_EQ(result.ids.size(), kDocuments);
  EXPECT_TRUE(result == reference(dtype)) << way.name;
}

std::string name_of(const ::testing::TestParamInfo<std::tuple<const char*, Way>>& info) {
  return std::get<1>(info.param).name + "_" + std::get<0>(info.param);
}

/// The ways whose batches differ most from those of the reference; the others run in the long form.
std::vector<Way> ways_for_bf16() {
  if (long_form()) return ways();
  std::vector<Way> chosen;
  for (const auto& way : ways()) {
    for (const char* name : {"one_rank_two_workers", "two_ranks_ceil", "three_ranks_one_item_batches",
                             "four_ranks_dynamic_small_windows"}) {
      if (way.name == name) chosen.push_back(way);
    }
  }
  return chosen;
}

INSTANTIATE_TEST_SUITE_P(Fp32, EncodeInvariance,
                         ::testing::Combine(::testing::Values("fp32"), ::testing::ValuesIn(ways())), name_of);
INSTANTIATE_TEST_SUITE_P(Bf16, EncodeInvariance,
                         ::testing::Combine(::testing::Values("bf16"), ::testing::ValuesIn(ways_for_bf16())),
                         name_of);

// The product quantizes row by row: no row knows of the others.
std::vector<Way> ways_for_int8() {
  return nn::has_int8_linear() ? ways_for_bf16() : std::vector<Way>{};
}

INSTANTIATE_TEST_SUITE_P(Int8, EncodeInvariance,
                         ::testing::Combine(::testing::Values("int8"), ::testing::ValuesIn(ways_for_int8())),
                         name_of);

TEST(EncodeInvariance, TheTwoTypesDoDiffer) {
  EXPECT_FALSE(reference("fp32") == reference("bf16"))
      << "a comparison that finds everything equal proves nothing";
}

TEST(EncodeInvariance, ShuffledInputGivesTheSameRows) {
  const Scratch scratch;
  const auto documents = shuffled(sample(kDocuments), 7);
  write_text(scratch / "in.tsv", as_tsv(documents));
  const auto outcome = run(mpirun(3) + encode(scratch, {"--batch-tokens", "500"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const auto result = read_embeddings(scratch / "out");
  const auto& plain = reference("fp32");
  std::map<std::string, std::string> rows;
  for (std::size_t i = 0; i < plain.ids.size(); ++i) rows[plain.ids[i]] = plain.row(i);
  ASSERT_EQ(result.ids.size(), documents.size());
  for (std::size_t i = 0; i < documents.size(); ++i) {
    ASSERT_EQ(result.ids[i], documents[i].id);
    EXPECT_TRUE(result.row(i) == rows.at(result.ids[i])) << result.ids[i];
  }
}

struct Format {
  const char* file;
  std::string (*write)(const std::vector<Document>&);
  bool gzip;
};

void PrintTo(const Format& format, std::ostream* out) {
  *out << format.file << (format.gzip ? ".gz" : "");
}

class EncodeFormats : public ::testing::TestWithParam<Format> {};

TEST_P(EncodeFormats, SameBytes) {
  const auto& format = GetParam();
  const Scratch scratch;
  std::string path = scratch / format.file;
  write_text(path, format.write(sample(kDocuments)));
  if (format.gzip) {
    ASSERT_EQ(run({"gzip", path}).exit_code, 0);
    path += ".gz";
  }
  const auto outcome = run(encode(scratch, {"-i", path}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(read_embeddings(scratch / "out") == reference("fp32"));
}

INSTANTIATE_TEST_SUITE_P(Table, EncodeFormats,
                         ::testing::Values(Format{"in.tsv", as_tsv, true}, Format{"in.csv", as_csv, false},
                                           Format{"in.csv", as_csv, true},
                                           Format{"in.jsonl", as_jsonl, false},
                                           Format{"in.jsonl", as_jsonl, true}));

TEST(EncodeInvariance, StopsAndResumesLeaveTheSameBytes) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(kDocuments)));
  const Command job = encode(scratch, {"--batch-size", "4", "--set", "run.commit_interval=1ms"});
  const auto killed = run(mpirun(2) + job, {{"MUSTER_FAULT", "worker.before_batch:1:12:kill"}});
  ASSERT_NE(killed.exit_code, 0) << killed.output;
  const auto stopped = run(mpirun(3) + job, {{"MUSTER_FAULT", "worker.after_batch:2:1:usr1"}});
  ASSERT_EQ(stopped.exit_code, 75) << stopped.output;
  EXPECT_GT(resumed_items(stopped).value_or(0), 0) << stopped.output;
  const auto rest = run(job);
  ASSERT_EQ(rest.exit_code, 0) << rest.output;
  EXPECT_GT(resumed_items(rest).value_or(0), resumed_items(stopped).value_or(0)) << rest.output;
  EXPECT_TRUE(read_embeddings(scratch / "out") == reference("fp32"));
}

}  // namespace
}  // namespace muster::test
