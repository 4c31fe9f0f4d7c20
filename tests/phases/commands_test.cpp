// SPDX-License-Identifier: Apache-2.0
// The commands beside the job: verify, search, plan, info, help; all of them without MPI.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "system.h"

namespace muster::test {
namespace {

constexpr std::size_t kDocuments = 200;

/// An encoded sample that all tests of this file look at.
class Commands : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new Scratch;
    write_text(*scratch_ / "in.tsv", as_tsv(sample(kDocuments)));
    const auto outcome = run(mpirun(2) + encode(*scratch_));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  }
  static void TearDownTestSuite() { delete scratch_; }
  static std::string out() { return *scratch_ / "out"; }
  static Scratch* scratch_;
};

Scratch* Commands::scratch_ = nullptr;

TEST_F(Commands, VerifyRedoesItems) {
  const auto outcome = run({muster_program(), "verify", out(), "--redo", "5"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(outcome.contains("5 items recomputed, 0 differ")) << outcome.output;
}

TEST_F(Commands, VerifyNamesTheFileWithAFlippedByte) {
  std::string bytes = read_text(out() + "/embeddings.h5");
  const auto restore = bytes;
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_text(out() + "/embeddings.h5", bytes);
  const auto outcome = run({muster_program(), "verify", out()});
  write_text(out() + "/embeddings.h5", restore);
  EXPECT_EQ(outcome.exit_code, 3) << outcome.output;
  EXPECT_TRUE(outcome.contains("embeddings.h5: ")) << outcome.output;
  EXPECT_FALSE(outcome.contains("resolved.yaml: ")) << outcome.output;
  EXPECT_EQ(run({muster_program(), "verify", out()}).exit_code, 0);
}

TEST_F(Commands, VerifySaysWhatADirectoryWithoutManifestIs) {
  const Scratch empty;
  const auto outcome = run({muster_program(), "verify", empty.path()});
  EXPECT_EQ(outcome.exit_code, 3) << outcome.output;
  EXPECT_TRUE(outcome.contains("manifest.json")) << outcome.output;
}

TEST_F(Commands, SearchFindsADocumentByItsOwnText) {
  for (const std::size_t place : {std::size_t{0}, std::size_t{57}, kDocuments - 1}) {
    const auto document = sample(kDocuments).at(place);
    const auto outcome = run({muster_program(), "search", out(), document.text, "--top", "3"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
    EXPECT_EQ(outcome.output.rfind("1.0000  " + document.id + "\n", 0), 0u)
        << document.id << ": " << outcome.output;
    EXPECT_EQ(count_of(outcome.output, "\n"), 3) << outcome.output;
  }
}

double balance_of(const Outcome& outcome) {
  const std::string name = "balance (max/mean)";
  const auto found = outcome.output.find(name);
  return found == std::string::npos ? 0 : std::strtod(outcome.output.c_str() + found + name.size(), nullptr);
}

// The sample has 2000 documents, about 31 for each of 64 ranks: batches are few, so the bound is looser than
// the 1.02 of a whole corpus.
TEST_F(Commands, PlanBalances64Ranks) {
  const auto plan = [](const Command& more) {
    return run(Command{muster_program(), "plan", "--job", "encode", "-m", tiny_encoder(), "-i",
                       source_file("configs/demo/debian_2000.tsv.gz"), "--batch-tokens", "256", "--dtype",
                       "fp32"} +
               more);
  };
  const auto balanced = plan({"--ranks", "64"});
  ASSERT_EQ(balanced.exit_code, 0) << balanced.output;
  EXPECT_TRUE(balanced.contains("on 64 ranks, 2000 documents") || balanced.contains("on 64 ranks"))
      << balanced.output;
  fmt::print("balance over 64 ranks: {:.4f}\n", balance_of(balanced));
  EXPECT_GE(balance_of(balanced), 1.0);
  EXPECT_LE(balance_of(balanced), 1.10) << balanced.output;
  const auto eight = plan({"--ranks", "8"});
  EXPECT_GE(balance_of(eight), 1.0);
  EXPECT_LE(balance_of(eight), 1.02) << eight.output;
}

TEST_F(Commands, InfoDescribesAPipeline) {
  const auto outcome = run({muster_program(), "info", source_file("tests/diffusion/fixtures")});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  for (const char* part : {"StableDiffusionPipeline: pictures of 32 x 32, sampler pndm, weights of ",
                           "StableDiffusionXLPipeline: pictures of 32 x 32, sampler euler"}) {
    EXPECT_TRUE(outcome.contains(part)) << part << ": " << outcome.output;
  }
  EXPECT_FALSE(outcome.contains("not usable")) << outcome.output;
}

TEST_F(Commands, InfoDescribesAModel) {
  const auto outcome = run({muster_program(), "info", tiny_encoder()});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  for (const char* part : {"muster 0.", "LibTorch", "HDF5", "bert: 2 layers x 64", "at most 64 tokens",
                           "pooling mean, normalized"}) {
    EXPECT_TRUE(outcome.contains(part)) << part << ": " << outcome.output;
  }
}

TEST_F(Commands, HelpAndVersionWorkWithoutMpirun) {
  for (const Command& words : {Command{"--help"}, Command{"encode", "--help"}, Command{"search", "--help"}}) {
    const auto outcome = run(Command{muster_program()} + words);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
    EXPECT_TRUE(outcome.contains("xamples")) << outcome.output;
  }
  const auto version = run({muster_program(), "--version"});
  EXPECT_EQ(version.exit_code, 0);
  for (const char* part : {"muster 0.", "MPI ", "LibTorch ", "HDF5 ", "NCCL"})
    EXPECT_TRUE(version.contains(part)) << version.output;
}

TEST_F(Commands, DryRunPlansAndWritesNothing) {
  const auto outcome = run(encode(*scratch_, {"-o", *scratch_ / "never", "--dry-run"}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(outcome.contains("micro-batches")) << outcome.output;
  EXPECT_FALSE(exists(*scratch_ / "never"));
}

TEST_F(Commands, AJobStartedWithRanksSaysSoInOneLine) {
  const auto outcome = run(encode(*scratch_, {"-o", *scratch_ / "two", "-n", "2"}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(count_of(outcome.output, "starting 2 ranks: mpirun"), 1) << outcome.output;
  EXPECT_TRUE(read_embeddings(*scratch_ / "two") == read_embeddings(out()));
}

}  // namespace
}  // namespace muster::test
