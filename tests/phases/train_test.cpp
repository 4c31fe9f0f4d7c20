// SPDX-License-Identifier: Apache-2.0
// The command `train` as a whole, on the tiny encoder: equal bytes and equal curves on any number of ranks,
// exact resume, and trouble.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "muster/formats/safetensors.h"
#include "system.h"

namespace muster::test {
namespace {

constexpr int kClasses = 6;
const Command kShort{"--epochs", "2", "--global-batch", "16"};

/// Six classes, two of them below others; a document's labels go by its words, so that there is something to
/// learn.
void write_task(const Scratch& scratch, std::size_t documents) {
  const auto all = sample(documents);
  write_text(scratch / "in.tsv", as_tsv(all));
  std::string classes, labels;
  for (int id = 0; id < kClasses; ++id) classes += fmt::format("{}\tclass_{}\n", id, id);
  write_text(scratch / "classes.txt", classes);
  write_text(scratch / "hierarchy.txt", "0\t4\n1\t5\n");
  for (const auto& document : all) {
    const bool library = document.text.find("librar") != std::string::npos;
    const bool data = document.text.find("data") != std::string::npos;
    labels += fmt::format("{}\t{}\n", document.id, library ? (data ? "4,3" : "4") : (data ? "5,2" : "1"));
  }
  write_text(scratch / "labels.tsv", labels);
}

Command train(const Scratch& scratch, const Command& more = {}) {
  return Command{muster_program(),
                 "train",
                 "-m",
                 tiny_encoder(),
                 "-i",
                 scratch / "in.tsv",
                 "-o",
                 scratch / "out",
                 "--labels",
                 scratch / "labels.tsv",
                 "--classes",
                 scratch / "classes.txt",
                 "--hierarchy",
                 scratch / "hierarchy.txt",
                 "--dtype",
                 "fp32",
                 "--device",
                 "cpu",
                 "--workers",
                 "1",
                 "--max-length",
                 "48",
                 "--losses"} +
         more;
}

std::string model_bytes(const Scratch& scratch) {
  return read_text(scratch / "out/model/model.safetensors");
}

/// One column of losses.csv.
std::vector<double> column(const Scratch& scratch, const std::string& name) {
  std::istringstream lines(read_text(scratch / "out/losses.csv"));
  std::string line, cell;
  std::getline(lines, line);
  std::size_t wanted = 0;
  for (std::istringstream cells(line); std::getline(cells, cell, ',') && cell != name;) ++wanted;
  std::vector<double> values;
  while (std::getline(lines, line)) {
    std::istringstream cells(line);
    for (std::size_t i = 0; i <= wanted; ++i) std::getline(cells, cell, ',');
    values.push_back(std::stod(cell));
  }
  return values;
}

struct Ended {
  std::string model;
  std::vector<double> losses;
};

Ended train_to_the_end(std::size_t documents, int ranks, const Command& more) {
  const Scratch scratch;
  write_task(scratch, documents);
  const Command command = train(scratch, more);
  const auto outcome = run(ranks == 1 ? command : mpirun(ranks) + command);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  if (outcome.exit_code != 0) return {};
  return {model_bytes(scratch), column(scratch, "loss")};
}

struct RanksCase {
  const char* name;
  std::size_t documents;
  Command more;
};

void PrintTo(const RanksCase& value, std::ostream* out) {
  *out << value.name;
}

class TrainRanks : public testing::TestWithParam<RanksCase> {};

TEST_P(TrainRanks, ReproducibleIsTheSameBytesOnAnyNumber) {
  const auto& [name, documents, more] = GetParam();
  const Command reproducible = more + Command{"--reproducible"};
  const Ended one = train_to_the_end(documents, 1, reproducible);
  ASSERT_FALSE(one.model.empty());
  for (const int ranks : {2, 3, 4}) {
    SCOPED_TRACE(ranks);
    const Ended many = train_to_the_end(documents, ranks, reproducible);
    EXPECT_TRUE(many.model == one.model) << "the models differ";
    EXPECT_EQ(many.losses, one.losses);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, TrainRanks,
    testing::Values(RanksCase{"fp32", 150, kShort},
                    // bf16 in hardware or not: the two are equally exact.
                    RanksCase{"bf16", 100, kShort + Command{"--dtype", "bf16"}},
                    RanksCase{"several_micro_batches", 60,
                              kShort + Command{"--batch-tokens", "64", "--head", "bilinear"}},
                    RanksCase{"fewer_documents_than_ranks", 3, kShort}, RanksCase{"no_documents", 0, kShort}),
    [](const auto& info) { return info.param.name; });

TEST(Train, OneCurveOnAnyNumberOfRanks) {
  const Ended one = train_to_the_end(150, 1, kShort);
  ASSERT_EQ(one.losses.size(), 20U);  // 2 epochs of 150 documents in batches of 16
  EXPECT_LT(one.losses.back(), one.losses.front()) << "nothing was learnt";
  for (const int ranks : {2, 3, 4}) {
    SCOPED_TRACE(ranks);
    const Ended many = train_to_the_end(150, ranks, kShort);
    ASSERT_EQ(many.losses.size(), one.losses.size());
    for (std::size_t i = 0; i < one.losses.size(); ++i)
      EXPECT_NEAR(many.losses[i], one.losses[i], 1e-4) << "step " << i + 1;
  }
}

TEST(Train, RecomputedActivationsChangeNothing) {
  const Ended kept = train_to_the_end(60, 1, kShort);
  const Ended recomputed =
      train_to_the_end(60, 1, kShort + Command{"--set", "train.gradient_checkpointing=true"});
  EXPECT_TRUE(kept.model == recomputed.model);
}

TEST(Train, AccumulationIsOneLargerBatch) {
  const Ended large = train_to_the_end(64, 1, {"--epochs", "2", "--batch-per-rank", "32"});
  const Ended parts = train_to_the_end(
      64, 1, {"--epochs", "2", "--batch-per-rank", "8", "--accumulation", "4", "--batch-tokens", "200"});
  ASSERT_EQ(parts.losses.size(), large.losses.size());
  for (std::size_t i = 0; i < large.losses.size(); ++i)
    EXPECT_NEAR(parts.losses[i], large.losses[i], 1e-5) << "step " << i + 1;
}

/// Ten steps, and how they are cut in two.
struct Cut {
  const char* name;
  int ranks;
  Command more;
  std::string fault;  ///< of the first start
  int exit_code;
};

void PrintTo(const Cut& cut, std::ostream* out) {
  *out << cut.name;
}

class TrainResume : public testing::TestWithParam<Cut> {};

TEST_P(TrainResume, TenStepsAreSixAndAKillAndFour) {
  const auto& [name, ranks, more, fault, exit_code] = GetParam();
  const Command ten = Command{"--epochs",       "2",  "--max-steps", "10",
                              "--global-batch", "16", "--set",       "train.checkpoint_steps=6"} +
                      more;
  const Ended whole = train_to_the_end(120, ranks, ten);
  ASSERT_EQ(whole.losses.size(), 10U);

  const Scratch scratch;
  write_task(scratch, 120);
  const Command command = ranks == 1 ? train(scratch, ten) : mpirun(ranks) + train(scratch, ten);
  const auto first = run(command, {{"MUSTER_FAULT", fault}});
  ASSERT_EQ(first.exit_code, exit_code) << first.output;
  EXPECT_FALSE(exists(scratch / "out/manifest.json"));
  const auto second = run(command);
  ASSERT_EQ(second.exit_code, 0) << second.output;
  EXPECT_TRUE(second.contains("resuming behind step")) << second.output;
  EXPECT_TRUE(model_bytes(scratch) == whole.model) << "the models differ";
  EXPECT_EQ(column(scratch, "loss"), whole.losses);
  EXPECT_FALSE(exists(scratch / "out/.run"));
}

INSTANTIATE_TEST_SUITE_P(
    Faults, TrainResume,
    testing::Values(Cut{"killed_in_a_step", 1, {}, "step.begin:0:9:kill", 137},
                    Cut{"killed_while_saving",
                        1,
                        {"--set", "train.checkpoint_steps=3"},
                        "checkpoint.begin:0:2:kill",
                        137},
                    Cut{"stopped", 1, {}, "step.begin:0:7:usr1", 75},
                    Cut{"killed_while_publishing", 1, {"--validation", "0.2"}, "publish.end:0:1:kill", 137},
                    Cut{"stopped_on_two_ranks", 2, {}, "step.begin:1:5:usr1", 75},
                    Cut{"stopped_reproducible_bf16",
                        2,
                        {"--reproducible", "--dtype", "bf16"},
                        "step.begin:0:8:usr1",
                        75}),
    [](const auto& info) { return info.param.name; });

class TrainKilledAtPoint : public testing::TestWithParam<std::string> {};

TEST_P(TrainKilledAtPoint, TheRestGivesTheSameBytes) {
  const Command steps{"--epochs", "1", "--global-batch", "16", "--set", "train.checkpoint_steps=2"};
  static const auto* whole = new Ended(train_to_the_end(100, 2, steps));
  const Scratch scratch;
  write_task(scratch, 100);
  const auto first = run(mpirun(2) + train(scratch, steps), {{"MUSTER_FAULT", GetParam() + ":*:2:kill"}});
  ASSERT_NE(first.exit_code, 0) << first.output;
  EXPECT_FALSE(exists(scratch / "out/manifest.json")) << "the kill missed: " << first.output;
  const auto second = run(mpirun(2) + train(scratch, steps));
  ASSERT_EQ(second.exit_code, 0) << second.output;
  EXPECT_TRUE(model_bytes(scratch) == whole->model) << "the models differ";
  EXPECT_EQ(column(scratch, "loss"), whole->losses);
}

INSTANTIATE_TEST_SUITE_P(Table, TrainKilledAtPoint, testing::ValuesIn(training_points()),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

TEST(TrainResumeKilled, ARankOfTwo) {
  const Command ten{"--epochs",       "2",  "--max-steps", "10",
                    "--global-batch", "16", "--set",       "train.checkpoint_steps=4"};
  const Ended whole = train_to_the_end(120, 2, ten);
  const Scratch scratch;
  write_task(scratch, 120);
  const auto first = run(mpirun(2) + train(scratch, ten), {{"MUSTER_FAULT", "step.begin:1:7:kill"}});
  EXPECT_NE(first.exit_code, 0);
  EXPECT_TRUE(first.contains("rank 1 is gone")) << first.output;
  const auto second = run(mpirun(2) + train(scratch, ten));
  ASSERT_EQ(second.exit_code, 0) << second.output;
  EXPECT_TRUE(model_bytes(scratch) == whole.model) << "the models differ";
}

TEST(TrainResumeRanks, TheBatchOfTheFirstStartStays) {
  const Scratch scratch;
  write_task(scratch, 120);
  const Command more{"--epochs", "2", "--batch-per-rank", "8"};
  const auto first = run(mpirun(2) + train(scratch, more), {{"MUSTER_FAULT", "step.begin:0:5:usr1"}});
  ASSERT_EQ(first.exit_code, 75) << first.output;
  const auto second = run(train(scratch, more));  // on one rank
  ASSERT_EQ(second.exit_code, 0) << second.output;
  EXPECT_NE(read_text(scratch / "out/resolved.yaml").find("global_batch: 16"), std::string::npos);
  EXPECT_EQ(column(scratch, "loss").size(), 16U);
  const auto third = run(mpirun(3) + train(scratch, more));
  EXPECT_EQ(third.exit_code, 0) << third.output;
  EXPECT_TRUE(third.contains("is finished already")) << third.output;
  const auto other = run(train(scratch, more + Command{"--lr", "1e-3"}));
  EXPECT_EQ(other.exit_code, 5) << other.output;
  EXPECT_TRUE(other.contains("train.lr")) << other.output;
}

TEST(TrainResumeKilled, AtRandomTimes) {
  const Command steps{"--epochs", "30", "--global-batch", "8", "--set", "train.checkpoint_steps=5"};
  const Ended whole = train_to_the_end(60, 2, steps);
  const Scratch scratch;
  write_task(scratch, 60);
  const int kills = long_form() ? 12 : 3;
  const std::uint64_t seed = 4242;
  fmt::print("seed {}, {} kills\n", seed, kills);
  for (int trial = 0; trial < kills; ++trial) {
    core::Philox random(seed, static_cast<std::uint64_t>(trial));
    Job job(mpirun(2) + train(scratch, steps));
    const Ranks ranks = wait_for_ranks(job, "muster", 2);
    sleep_ms(300 + random.next_below(1500));
    if (!ranks.pids.empty()) ::kill(ranks.pids[random.next_below(ranks.pids.size())], SIGKILL);
    job.wait(30);
  }
  const auto last = run(mpirun(2) + train(scratch, steps));
  ASSERT_EQ(last.exit_code, 0) << last.output;
  EXPECT_TRUE(model_bytes(scratch) == whole.model) << "the models differ";
}

TEST(Train, TheBestEpochIsTheResultAndPatienceEnds) {
  const Scratch scratch;
  write_task(scratch, 100);
  // A learning rate at which every epoch is worse than the first.
  const auto outcome = run(train(
      scratch, {"--epochs", "12", "--global-batch", "16", "--validation", "0.2", "--lr", "0.3", "--clip-norm",
                "0", "--set", "train.patience=2", "train.scheduler=constant", "train.warmup=0"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(outcome.contains("stopped early")) << outcome.output;
  EXPECT_TRUE(exists(scratch / "out/model/model.safetensors"));
  EXPECT_TRUE(exists(scratch / "out/last/model.safetensors"));
  EXPECT_NE(read_text(scratch / "out/last/model.safetensors"), model_bytes(scratch));
}

TEST(Train, Fp16OverflowsLowerTheLossScaleAndDoNotMoveTheSchedule) {
  const Scratch scratch;
  write_task(scratch, 100);
  const auto outcome = run(train(scratch, {"--dtype", "fp16", "--epochs", "1", "--global-batch", "8", "--set",
                                           "train.loss_scale=67108864", "train.log_every=1"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const auto scale = column(scratch, "loss_scale"), skipped = column(scratch, "skipped"),
             rate = column(scratch, "learning_rate");
  ASSERT_EQ(skipped.size(), 13U);
  EXPECT_EQ(skipped.front(), 1);
  EXPECT_EQ(skipped.back(), 0);
  for (std::size_t i = 1; i < skipped.size(); ++i) {
    EXPECT_EQ(scale[i], skipped[i - 1] != 0 ? scale[i - 1] / 2 : scale[i - 1]) << "step " << i + 1;
    if (skipped[i - 1] == 0) continue;
    EXPECT_EQ(rate[i], rate[i - 1]) << "step " << i + 1;
  }
  EXPECT_TRUE(exists(scratch / "out/report.html")) << "a norm that is not finite is no number in JSON";
}

TEST(Train, OutOfMemoryHalvesTheMicroBatch) {
  const Ended plain = train_to_the_end(60, 1, kShort);
  const Scratch scratch;
  write_task(scratch, 60);
  const auto outcome = run(train(scratch, kShort), {{"MUSTER_FAULT", "train.forward:0:3:oom"}});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(outcome.contains("it is halved")) << outcome.output;
  const auto losses = column(scratch, "loss");
  ASSERT_EQ(losses.size(), plain.losses.size());
  for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], plain.losses[i], 1e-5);
}

/// Fills a tensor of a copied model with NaN.
void poison(const std::string& folder, const std::string& tensor) {
  const std::string path = folder + "/model.safetensors";
  std::string bytes = read_text(path);
  const auto header = formats::parse_safetensors_header(std::as_bytes(std::span(bytes)), path);
  const auto& info = header.tensors.at(tensor);
  std::memset(bytes.data() + header.data_offset + info.begin, 0xff, info.end - info.begin);
  write_text(path, bytes);
}

TEST(Train, GradientsThatAreNotFiniteNameTensorAndDocuments) {
  const Scratch scratch;
  write_task(scratch, 200);
  const std::string model = copy_of_tiny_encoder(scratch);
  poison(model, "encoder.layer.1.output.dense.bias");
  const auto outcome = run(train(scratch, {"-m", model, "--epochs", "3", "--global-batch", "4"}));
  EXPECT_EQ(outcome.exit_code, 3) << outcome.output;
  EXPECT_TRUE(outcome.contains("is not finite; the step is skipped. Of the batch: "))
      << outcome.output;
  EXPECT_TRUE(outcome.contains("10 steps in a row")) << outcome.output;
}

TEST(Train, DuplicatesEmptiesAndVeryLongTexts) {
  const Scratch scratch;
  write_task(scratch, 20);
  std::string words;
  for (int i = 0; i < 12000; ++i) words += "word ";
  write_text(scratch / "in.tsv", read_text(scratch / "in.tsv") + "long\t" + words + "\nempty\t\n" +
                                     sample(1)[0].id + "\tagain\n");
  write_text(scratch / "labels.tsv", read_text(scratch / "labels.tsv") + "long\t1\nempty\t2\nelsewhere\t3\n");
  const auto outcome = run(mpirun(2) + train(scratch, kShort));
  EXPECT_EQ(outcome.exit_code, 4) << outcome.output;  // the doubled id is rejected
  EXPECT_TRUE(outcome.contains("1 of 23 labelled documents are not in the input")) << outcome.output;
  EXPECT_NE(read_text(scratch / "out/rejects.jsonl").find("duplicate id"), std::string::npos);
}

struct Refusal {
  const char* name;
  const char* file;
  std::string content;
  int exit_code;
  const char* says;
};

void PrintTo(const Refusal& refusal, std::ostream* out) {
  *out << refusal.name;
}

class TrainRefusals : public testing::TestWithParam<Refusal> {};

TEST_P(TrainRefusals, SayWhatAndWhere) {
  const auto& [name, file, content, exit_code, says] = GetParam();
  const Scratch scratch;
  write_task(scratch, 10);
  write_text(scratch / file, content);
  const auto outcome = run(train(scratch, kShort));
  EXPECT_EQ(outcome.exit_code, exit_code) << outcome.output;
  EXPECT_TRUE(outcome.contains(says)) << outcome.output;
  EXPECT_FALSE(exists(scratch / "out/manifest.json"));
}

INSTANTIATE_TEST_SUITE_P(
    Files, TrainRefusals,
    testing::Values(Refusal{"cycle", "hierarchy.txt", "0\t4\n4\t0\n", 3, "hierarchy.txt"},
                    Refusal{"unknown_class_in_an_edge", "hierarchy.txt", "0\t4\n0\t17\n", 3, "line 2"},
                    Refusal{"unknown_label", "labels.tsv", "a\t1\nb\t99\n", 3, "line 2"},
                    Refusal{"ids_out_of_order", "classes.txt", "0\ta\n2\tb\n", 3, "line 2"}),
    [](const auto& info) { return info.param.name; });

TEST(Train, PlanAndDryRunGiveMemoryByPart) {
  const Scratch scratch;
  write_task(scratch, 10);
  const auto dry = run(train(scratch, {"--dry-run"}));
  ASSERT_EQ(dry.exit_code, 0) << dry.output;
  for (const char* part : {"master weights", "optimizer", "gradients", "activations", "together", "in fp32"})
    EXPECT_TRUE(dry.contains(part)) << part << ": " << dry.output;
  EXPECT_FALSE(exists(scratch / "out"));
}

}  // namespace
}  // namespace muster::test
