// SPDX-License-Identifier: Apache-2.0
// The contract's table of trouble, its lines about what goes in: models, inputs, items, memory, and changes
// between starts.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "system.h"

namespace muster::test {
namespace {

namespace fs = std::filesystem;

/// Damage to a model's folder and the file that the message must name.
struct Damage {
  const char* name;
  const char* file;
  void (*apply)(const std::string& path);
  int ranks = 1;
};

void PrintTo(const Damage& damage, std::ostream* out) {
  *out << damage.name;
}

void remove(const std::string& path) {
  fs::remove(path);
}
void cut_in_half(const std::string& path) {
  fs::resize_file(path, fs::file_size(path) / 2);
}
void empty(const std::string& path) {
  fs::resize_file(path, 0);
}
void garble(const std::string& path) {
  write_text(path, "\x01\x02{\"this is\": not json");
}

class DamagedModel : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedModel, IsRefusedByName) {
  const auto& damage = GetParam();
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(10)));
  const std::string model = copy_of_tiny_encoder(scratch);
  damage.apply(model + "/" + damage.file);
  const Command job = encode(scratch, {"-m", model});
  const auto outcome = run(damage.ranks == 1 ? job : mpirun(damage.ranks) + job);
  EXPECT_EQ(outcome.exit_code, 3) << outcome.output;
  EXPECT_TRUE(outcome.contains(damage.file)) << outcome.output;
  EXPECT_EQ(count_of(outcome.output, "muster: error:") + count_of(outcome.output, "] error:"), 1)
      << "said once: " << outcome.output;
  EXPECT_FALSE(exists(scratch / "out/embeddings.h5"));
}

INSTANTIATE_TEST_SUITE_P(Table, DamagedModel,
                         ::testing::Values(Damage{"tokenizer_missing", "tokenizer.json", remove},
                                           Damage{"tokenizer_garbled", "tokenizer.json", garble, 2},
                                           Damage{"tokenizer_cut", "tokenizer.json", cut_in_half},
                                           Damage{"weights_missing", "model.safetensors", remove},
                                           Damage{"weights_cut", "model.safetensors", cut_in_half, 3},
                                           Damage{"weights_empty", "model.safetensors", empty},
                                           Damage{"config_missing", "config.json", remove},
                                           Damage{"config_garbled", "config.json", garble},
                                           Damage{"pooling_missing", "1_Pooling/config.json", remove}),
                         [](const auto& info) { return info.param.name; });

/// A command line that cannot work: its exit code and what the message must say.
struct Refusal {
  const char* name;
  Command flags;
  int exit_code;
  const char* says;
};

void PrintTo(const Refusal& refusal, std::ostream* out) {
  *out << refusal.name;
}

class Refusals : public ::testing::TestWithParam<Refusal> {};

TEST_P(Refusals, SayWhatIsWrong) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(10)));
  const auto outcome = run(encode(scratch, GetParam().flags), {{"HF_HUB_CACHE", scratch / "no_cache"}});
  EXPECT_EQ(outcome.exit_code, GetParam().exit_code) << outcome.output;
  EXPECT_TRUE(outcome.contains(GetParam().says)) << outcome.output;
  EXPECT_FALSE(exists(scratch / "out/embeddings.h5"));
}

INSTANTIATE_TEST_SUITE_P(
    Table, Refusals,
    ::testing::Values(
        Refusal{"no_such_input", {"-i", "/nowhere/docs.tsv"}, 3, "/nowhere/docs.tsv"},
        Refusal{"empty_glob", {"-i", "/nowhere/*.tsv"}, 3, "/nowhere/*.tsv"},
        Refusal{"no_such_model", {"-m", "/nowhere/model"}, 3, "/nowhere/model"},
        Refusal{"model_not_in_cache", {"-m", "some/model"}, 3, "huggingface-cli download some/model"},
        Refusal{"unknown_schedule", {"--schedule", "balancd"}, 2, "balanced"},
        Refusal{
            "fp16_on_a_cpu", {"--dtype", "fp16"}, 2, "a CPU has no fast fp16"},  // int8: hardware_test.cpp
        Refusal{"too_long_a_window", {"--max-length", "100000"}, 2, "max_length"},
        Refusal{"no_such_prompt", {"--prompt-name", "nonsense"}, 2, "nonsense"},
        Refusal{"typo_in_flag", {"--batch-tokns", "5"}, 2, "--batch-tokens"}),
    [](const auto& info) { return info.param.name; });

TEST(Refusals, ATypoInAFileIsNamedWithItsLine) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(10)));
  write_text(scratch / "job.yaml", "job: encode\nrun:\n  dtype: fp32\n  schedul: ceil\n  workrs: 2\n");
  const auto outcome =
      run(mpirun(2) + Command{muster_program(), "encode", scratch / "job.yaml", "-m", tiny_encoder(), "-i",
                              scratch / "in.tsv", "-o", scratch / "out"});
  EXPECT_EQ(outcome.exit_code, 2) << outcome.output;
  for (const char* part : {"job.yaml:4", "schedule", "job.yaml:5", "workers"})
    EXPECT_TRUE(outcome.contains(part)) << part << ": " << outcome.output;
}

TEST(Resume, ChangesAreListed) {
  const Scratch scratch;
  const auto documents = sample(20);
  write_text(scratch / "in.tsv", as_tsv(documents));
  const std::string model = copy_of_tiny_encoder(scratch);
  const Command job = encode(scratch, {"-m", model});
  ASSERT_EQ(run(job).exit_code, 0);
  const std::string table = read_text(scratch / "out/embeddings.h5");

  const auto config = run(mpirun(2) + job + Command{"--pooling", "cls"});
  EXPECT_EQ(config.exit_code, 5) << config.output;
  EXPECT_TRUE(config.contains("model.pooling")) << config.output;

  std::string weights = read_text(model + "/model.safetensors");
  weights.back() = static_cast<char>(weights.back() ^ 1);
  write_text(model + "/model.safetensors", weights);
  write_text(scratch / "in.tsv", as_tsv(shuffled(documents, 3)));
  const auto both = run(job);
  EXPECT_EQ(both.exit_code, 5) << both.output;
  EXPECT_TRUE(both.contains("model.sha256")) << both.output;
  EXPECT_TRUE(both.contains("input.sha256")) << both.output;
  EXPECT_FALSE(both.contains("tokenizer.sha256")) << "only what differs: " << both.output;
  EXPECT_TRUE(both.contains("--fresh")) << both.output;
  EXPECT_EQ(read_text(scratch / "out/embeddings.h5"), table) << "earlier results stay intact";
  EXPECT_EQ(run(job + Command{"--fresh"}).exit_code, 0);
}

TEST(FewItems, ZeroItemsGiveAnEmptyTableOfTheRightWidth) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", "id\ttext\n");
  const auto outcome = run(mpirun(2) + encode(scratch));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const auto result = read_embeddings(scratch / "out");
  EXPECT_EQ(result.ids.size(), 0u);
  EXPECT_EQ(result.dimensions, 64u);
}

TEST(FewItems, RanksWithNothingSkip) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(2)));
  const auto outcome = run(mpirun(4) + encode(scratch));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(read_embeddings(scratch / "out").ids.size(), 2u);
}

TEST(LongTexts, AreCountedMarkedAndInTheSummary) {
  const Scratch scratch;
  std::string words;
  for (int i = 0; i < 100; ++i) words += "word ";
  write_text(scratch / "in.tsv", "a\tshort\nb\t" + words + "\nc\t\nd\t" + words + "\n");
  const auto outcome = run(mpirun(2) + encode(scratch));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(outcome.contains("truncated 2")) << outcome.output;
  const auto result = read_embeddings(scratch / "out");
  EXPECT_EQ(result.truncated, (std::vector<std::uint8_t>{0, 1, 0, 1}));
  EXPECT_EQ(result.n_tokens.at(1), 64);
  EXPECT_EQ(result.n_tokens.at(2), 2) << "an empty text is a valid item";

  const auto strict = run(mpirun(2) + encode(scratch, {"-o", scratch / "strict", "--on-truncate", "fail"}));
  EXPECT_EQ(strict.exit_code, 4) << strict.output;
  EXPECT_EQ(read_embeddings(scratch / "strict").ids, (std::vector<std::string>{"a", "c"}));
  EXPECT_EQ(count_of(read_text(scratch / "strict/failures.jsonl"), "longer than the model takes"), 2);
}

// Refused texts are not tried, so a hundred of them ahead of all others say nothing about the job.
TEST(LongTexts, ManyRefusedOnesDoNotEndTheJob) {
  const Scratch scratch;
  std::string words, lines = "short\ta short one\n";
  for (int i = 0; i < 100; ++i) words += "word ";
  for (int i = 0; i < 100; ++i) lines += fmt::format("long{}\t{}\n", i, words);
  write_text(scratch / "in.tsv", lines);
  const auto outcome = run(encode(scratch, {"--on-truncate", "fail"}));
  EXPECT_EQ(outcome.exit_code, 4) << outcome.output;
  EXPECT_EQ(read_embeddings(scratch / "out").ids, std::vector<std::string>{"short"});
}

TEST(BadRows, AreListedAndTheRestIsDone) {
  const Scratch scratch;
  write_text(scratch / "in.tsv",
             "a\tone\nbroken row\nb\ttwo \xff\xfe\nb\tagain\n" + std::string("c\tnul\0byte\n", 11));
  const auto outcome = run(mpirun(2) + encode(scratch));
  EXPECT_EQ(outcome.exit_code, 4) << outcome.output;
  EXPECT_EQ(read_embeddings(scratch / "out").ids, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(count_of(read_text(scratch / "out/rejects.jsonl"), "\n"), 3);
  EXPECT_TRUE(outcome.contains("not UTF-8")) << outcome.output;
}

TEST(OutOfMemory, HalvesTheBatchSaysSoOnceAndGivesTheSameBytes) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(100)));
  ASSERT_EQ(run(encode(scratch, {"-o", scratch / "plain"})).exit_code, 0);
  const auto outcome =
      run(encode(scratch), {{"MUSTER_FAULT", "worker.run:0:1:oom,worker.run:0:2:oom,worker.run:0:5:oom"}});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(count_of(outcome.output, "halved"), 1) << outcome.output;
  EXPECT_TRUE(read_embeddings(scratch / "out") == read_embeddings(scratch / "plain"));
}

TEST(OutOfMemory, ForASingleItemNamesTheRank) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(40)));
  const auto outcome =
      run(mpirun(2) + encode(scratch, {"--batch-size", "1"}), {{"MUSTER_FAULT", "worker.run:1:3:oom"}});
  EXPECT_EQ(outcome.exit_code, 6) << outcome.output;
  EXPECT_TRUE(outcome.contains("rank 1")) << outcome.output;
  EXPECT_TRUE(outcome.contains("for a single item (row ")) << outcome.output;
}

}  // namespace
}  // namespace muster::test
