// SPDX-License-Identifier: Apache-2.0
// The pipeline `teleclass` as a whole, on a cut of the small classification task and the tiny encoder: equal
// bytes on any number of ranks, stops in every stage, redone stages, scores, and who reads the gold labels
// when.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "muster/core/strings.h"
#include "muster/formats/json.h"
#include "teleclass_task.h"

namespace muster::test {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kTrain = 90, kTest = 50;
const char* const kStages[] = {"classes", "documents", "labels", "zero_shot", "model", "infer", "scores"};

/// What must not depend on how a pipeline ran.
std::map<std::string, std::string> results(const Scratch& scratch) {
  std::map<std::string, std::string> out;
  for (const char* file :
       {"class_texts.tsv", "labels/pseudo_labels.tsv", "labels/starved_classes.tsv", "labels/classes.csv",
        "labels/class_vectors.safetensors", "zero_shot/submission.csv", "model/model/model.safetensors",
        "infer/submission.csv", "submission.csv", "scores/scores.json", "scores/scores.csv",
        "scores/classes.csv", "scores/confusions.csv"})
    out[file] = exists(scratch / "out/" + file) ? read_text(scratch / "out/" + file) : "there is none";
  return out;
}

void expect_same(const std::map<std::string, std::string>& a, const std::map<std::string, std::string>& b) {
  for (const auto& [file, bytes] : a) {
    EXPECT_NE(bytes, "there is none") << file;
    EXPECT_TRUE(bytes == b.at(file)) << file << " differs";
  }
}

double score(const Scratch& scratch, const std::string& method, const std::string& metric) {
  const auto json = formats::parse_json(read_text(scratch / "out/scores/scores.json"), "scores.json");
  return json.at("methods").at(method).get<double>(metric);
}

/// A finished pipeline on one rank, that the tests of this file look at.
class Teleclass : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    whole_ = new Scratch;
    write_task(*whole_, kTrain, kTest);
    const auto outcome = run(teleclass(*whole_));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  }
  static void TearDownTestSuite() { delete whole_; }
  /// A copy that a test may change.
  static void copy_whole(const Scratch& scratch) {
    fs::copy(*whole_ / "data", scratch / "data", fs::copy_options::recursive);
    fs::copy(*whole_ / "out", scratch / "out", fs::copy_options::recursive);
  }
  static Scratch* whole_;
};

Scratch* Teleclass::whole_ = nullptr;

TEST_F(Teleclass, EqualBytesOnAnyNumberOfRanks) {
  const auto one = results(*whole_);
  for (const int ranks : {2, 3}) {
    SCOPED_TRACE(ranks);
    const Scratch scratch;
    fs::copy(*whole_ / "data", scratch / "data", fs::copy_options::recursive);
    const auto outcome = run(mpirun(ranks) + teleclass(scratch));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
    expect_same(results(scratch), one);
  }
}

TEST_F(Teleclass, SubmissionHasEveryTestDocumentOnceInOrder) {
  for (const char* file : {"submission.csv", "zero_shot/submission.csv"}) {
    const auto rows = read_csv_file(*whole_ / "out/" + file);
    ASSERT_EQ(rows.size(), kTest + 1) << file;
    for (std::size_t i = 0; i < kTest; ++i) {
      EXPECT_EQ(rows[i + 1][0], std::to_string(i)) << file;
      EXPECT_EQ(core::split(rows[i + 1][1], ',').size(), 3U) << file;
    }
  }
}

std::string first_unfinished(const Scratch& scratch) {
  for (const char* stage : kStages)
    if (!exists(scratch / "out/" + stage + "/manifest.json")) return stage;
  return "";
}

// One directory: every stage is stopped by a signal in its work and then, unless it got to its end all the
// same, while it publishes; every start goes on where the last one ended.
TEST_F(Teleclass, StopsInEveryStageAndGoesOn) {
  const Scratch scratch;
  fs::copy(*whole_ / "data", scratch / "data", fs::copy_options::recursive);
  const std::set<std::string> of_items{"classes", "documents", "infer"};
  std::vector<std::string> stopped;
  for (std::string stage; (stage = first_unfinished(scratch)) != "scores";) {
    const bool again = !stopped.empty() && stopped.back() == stage;
    const std::string fault = again                      ? "publish.begin:0:1:usr1"
                              : of_items.contains(stage) ? "worker.before_batch:0:1:usr1"
                                                         : "step.begin:0:1:usr1";
    SCOPED_TRACE(fmt::format("{} in {}", fault, stage));
    const auto outcome = run(teleclass(scratch), {{"MUSTER_FAULT", fault}});
    ASSERT_EQ(outcome.exit_code, 75) << outcome.output;
    EXPECT_TRUE(outcome.contains("run the same command again")) << outcome.output;
    EXPECT_FALSE(exists(scratch / "out/manifest.json"));
    ASSERT_TRUE(!again || first_unfinished(scratch) != stage) << outcome.output;
    if (!again) stopped.push_back(stage);
  }
  EXPECT_EQ(stopped, std::vector<std::string>(std::begin(kStages), std::end(kStages) - 1));
  // There is nothing behind the last stage to be stopped.
  const auto last = run(teleclass(scratch), {{"MUSTER_FAULT", "step.begin:0:1:usr1"}});
  ASSERT_EQ(last.exit_code, 0) << last.output;
  expect_same(results(scratch), results(*whole_));
  EXPECT_FALSE(exists(scratch / "out/.run"));
}

TEST_F(Teleclass, ASignalToOneOfTwoRanksStopsBoth) {
  const Scratch scratch;
  fs::copy(*whole_ / "data", scratch / "data", fs::copy_options::recursive);
  const auto command = mpirun(2) + teleclass(scratch);
  const auto stopped = run(command, {{"MUSTER_FAULT", "step.begin:1:3:usr1"}});
  ASSERT_EQ(stopped.exit_code, 75) << stopped.output;
  const auto outcome = run(command);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  expect_same(results(scratch), results(*whole_));
}

TEST_F(Teleclass, MaxTimeIsOfTheWholePipeline) {
  const Scratch scratch;
  fs::copy(*whole_ / "data", scratch / "data", fs::copy_options::recursive);
  const auto stopped = run(teleclass(scratch, {"--max-time", "1ms"}));
  EXPECT_EQ(stopped.exit_code, 75) << stopped.output;
  EXPECT_FALSE(exists(scratch / "out/labels")) << stopped.output;
}

/// What became of a stage in a start: "kept", "redone" or "made".
std::string fate(const Outcome& outcome, const Scratch& scratch, const std::string& stage) {
  const std::string folder = scratch / "out/" + stage;
  if (outcome.contains(folder + " is finished already")) return "kept";
  if (outcome.contains(folder + " is done again, as asked for")) return "asked";
  return outcome.contains(folder + " was made from other results") ? "redone" : "made";
}

std::vector<std::string> fates(const Outcome& outcome, const Scratch& scratch) {
  std::vector<std::string> out;
  for (const char* stage : kStages) out.push_back(fate(outcome, scratch, stage));
  return out;
}

using Fates = std::vector<std::string>;

TEST_F(Teleclass, AStageIsDoneAgainAloneAndThoseBehindItWhenTheirInputChanged) {
  const Scratch scratch;
  copy_whole(scratch);
  const auto nothing = run(teleclass(scratch));
  ASSERT_EQ(nothing.exit_code, 0) << nothing.output;
  EXPECT_EQ(fates(nothing, scratch), (Fates{"kept", "kept", "kept", "kept", "kept", "kept", "kept"}));

  // The same bytes again: nothing behind it changes.
  const auto same = run(teleclass(scratch, {"--redo", "labels"}));
  ASSERT_EQ(same.exit_code, 0) << same.output;
  EXPECT_EQ(fates(same, scratch), (Fates{"kept", "kept", "asked", "kept", "kept", "kept", "kept"}));

  fs::remove_all(scratch / "out/model");
  const auto removed = run(teleclass(scratch));
  ASSERT_EQ(removed.exit_code, 0) << removed.output;
  EXPECT_EQ(fates(removed, scratch), (Fates{"kept", "kept", "kept", "kept", "made", "kept", "kept"}));
  expect_same(results(scratch), results(*whole_));

  // Another setting is refused, unless the stage is to be redone; what is behind it follows.
  const auto refused = run(teleclass(scratch, {"--top-documents", "3"}));
  EXPECT_EQ(refused.exit_code, 5) << refused.output;
  EXPECT_TRUE(refused.contains("--redo labels")) << refused.output;
  EXPECT_TRUE(exists(scratch / "out/manifest.json"));
  const auto changed = run(teleclass(scratch, {"--top-documents", "3", "--redo", "labels"}));
  ASSERT_EQ(changed.exit_code, 0) << changed.output;
  EXPECT_EQ(fates(changed, scratch), (Fates{"kept", "kept", "asked", "kept", "redone", "redone", "redone"}));
  EXPECT_FALSE(read_text(scratch / "out/submission.csv") == read_text(*whole_ / "out/submission.csv"));
}

// A later stage is never left beside the new results of an earlier one, even when a stop comes between them.
TEST_F(Teleclass, AStopBehindARedoneStageIsNoWayAround) {
  const Scratch scratch;
  copy_whole(scratch);
  const Command command = teleclass(scratch, {"--top-documents", "3", "--redo", "labels"});
  const auto stopped = run(command, {{"MUSTER_FAULT", "publish.begin:0:1:usr1"}});
  ASSERT_EQ(stopped.exit_code, 75) << stopped.output;
  EXPECT_FALSE(exists(scratch / "out/submission.csv"));
  const auto verified = run({muster_program(), "verify", scratch / "out"});
  EXPECT_EQ(verified.exit_code, 3) << verified.output;
  const auto outcome = run(command);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(fates(outcome, scratch), (Fates{"kept", "kept", "kept", "kept", "redone", "redone", "redone"}));
}

TEST_F(Teleclass, AnotherSeedIsAnotherTrainingAlone) {
  const Scratch scratch;
  copy_whole(scratch);
  const auto outcome = run(teleclass(scratch, {"--seed", "7", "--redo", "model"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(fates(outcome, scratch), (Fates{"kept", "kept", "kept", "kept", "asked", "redone", "redone"}));
}

/// The gold labels' files, watched by the kernel.
class Watch {
 public:
  explicit Watch(const std::vector<std::string>& files) : fd_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
    for (const auto& file : files)
      EXPECT_GE(::inotify_add_watch(fd_, file.c_str(), IN_OPEN | IN_ACCESS), 0) << file;
  }
  ~Watch() { ::close(fd_); }
  /// Events since the last call.
  int count() const {
    int events = 0;
    alignas(inotify_event) char buffer[4096];
    for (ssize_t got; (got = ::read(fd_, buffer, sizeof buffer)) > 0;)
      events += static_cast<int>(got / static_cast<ssize_t>(sizeof(inotify_event)));
    return events;
  }

 private:
  int fd_;
};

TEST_F(Teleclass, NoStageButScoringReadsGoldLabels) {
  const Scratch scratch;
  fs::copy(*whole_ / "data", scratch / "data", fs::copy_options::recursive);
  const Watch test({scratch / "data/gold/test_doc2labels.txt"});
  const Watch train({scratch / "data/gold/train_doc2labels.txt"});
  const auto until = run(teleclass(scratch, {"--until", "infer"}));
  ASSERT_EQ(until.exit_code, 0) << until.output;
  EXPECT_TRUE(exists(scratch / "out/submission.csv"));
  EXPECT_EQ(test.count(), 0);
  const auto scores = run(teleclass(scratch));
  ASSERT_EQ(scores.exit_code, 0) << scores.output;
  EXPECT_GT(test.count(), 0);
  EXPECT_EQ(train.count(), 0);
}

TEST_F(Teleclass, ScoresOfAPerfectAndOfAHopelessSubmission) {
  const Scratch scratch;
  copy_whole(scratch);
  std::string perfect, hopeless;
  const auto rows = read_csv_file(scratch / "out/submission.csv");
  for (std::size_t i = 1; i < rows.size(); ++i) {
    perfect += rows[i][0] + "\t" + rows[i][1] + "\n";
    const auto given = core::split(rows[i][1], ',');
    int other = 0;
    while (std::find(given.begin(), given.end(), std::to_string(other)) != given.end()) ++other;
    hopeless += fmt::format("{}\t{}\n", rows[i][0], other);
  }
  write_text(scratch / "perfect.txt", perfect);
  const auto first = run(teleclass(scratch, {"--test-gold", scratch / "perfect.txt", "--redo", "scores"}));
  ASSERT_EQ(first.exit_code, 0) << first.output;
  for (const char* metric :
       {"example_f1", "p_at_1", "p_at_3", "p_at_3_reachable", "mrr_pooled", "mrr_per_document", "micro_f1"})
    EXPECT_EQ(score(scratch, "classifier", metric), 1) << metric;
  EXPECT_EQ(score(scratch, "classifier", "example_f1_standard_error"), 0);
  EXPECT_LT(score(scratch, "zero_shot", "example_f1"), 1);
  // Its header alone: nobody is confused.
  EXPECT_EQ(read_csv_file(scratch / "out/scores/confusions.csv").size(), 1U);

  write_text(scratch / "hopeless.txt", hopeless + "999\t1\n");  // and one that nobody predicted
  const auto second = run(teleclass(scratch, {"--test-gold", scratch / "hopeless.txt", "--redo", "scores"}));
  ASSERT_EQ(second.exit_code, 0) << second.output;
  for (const char* metric : {"example_f1", "p_at_1", "p_at_3", "micro_f1", "macro_f1"})
    EXPECT_EQ(score(scratch, "classifier", metric), 0) << metric;
  const auto json = formats::parse_json(read_text(scratch / "out/scores/scores.json"), "scores.json");
  EXPECT_EQ(json.get<std::uint64_t>("documents"), kTest + 1);
}

TEST_F(Teleclass, WithoutGoldLabelsNothingIsScored) {
  const Scratch scratch;
  copy_whole(scratch);
  fs::remove_all(scratch / "out/scores");
  const auto outcome = run(teleclass(scratch, {"--test-gold", "none"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(outcome.contains("nothing is scored")) << outcome.output;
  EXPECT_FALSE(exists(scratch / "out/scores"));
}

TEST_F(Teleclass, MoreClassesThanDocuments) {
  const Scratch scratch;
  write_task(scratch, 7, 5);
  const auto outcome = run(teleclass(scratch));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(read_csv_file(scratch / "out/submission.csv").size(), 6U);
}

TEST_F(Teleclass, RejectedRowsArePassedOn) {
  const Scratch scratch;
  write_task(scratch, 20, 10);
  write_text(scratch / "data/test/test_corpus.txt",
             read_text(scratch / "data/test/test_corpus.txt") + "3\tthe same id again\n");
  const auto outcome = run(teleclass(scratch));
  EXPECT_EQ(outcome.exit_code, 4) << outcome.output;
  EXPECT_EQ(read_csv_file(scratch / "out/submission.csv").size(), 11U);
  EXPECT_EQ(run({muster_program(), "verify", scratch / "out"}).exit_code, 0);
}

TEST_F(Teleclass, TrainOnTrainAndAPercentile) {
  const Scratch scratch;
  write_task(scratch, 40, 20);
  const auto outcome = run(teleclass(
      scratch, {"--until", "model", "--train-on", "train", "--set", "teleclass.confidence_percentile=25"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const std::string labels = read_text(scratch / "out/labels/pseudo_labels.tsv");
  EXPECT_EQ(count_of(labels, "\n"), 30);
  EXPECT_EQ(count_of(labels, "test/"), 0);
}

struct Refusal {
  const char* name;
  const char* file;
  std::string content;
  Command more;
  int exit_code;
  std::vector<std::string> says;
};

TEST_F(Teleclass, RefusesBeforeAnyWork) {
  const Refusal refusals[] = {
      {"cycle",
       "data/class_hierarchy.txt",
       "0\t1\n1\t2\n2\t0\n",
       {},
       3,
       {"class_hierarchy.txt", "a cycle", "line 3"}},
      {"unknown class", "data/class_hierarchy.txt", "0\t1\n0\t77\n", {}, 3, {"class_hierarchy.txt: line 2"}},
      {"no name in the text",
       "ignored",
       "",
       {"--class-text", "all the same"},
       2,
       {"teleclass.class_text", "{name}"}},
      {"infer", "ignored", "", {"--labels", "threshold", "--threshold", "2"}, 2, {"infer.threshold is 2"}},
      {"train", "ignored", "", {"--set", "train.patience=2"}, 2, {"train.validation is 0"}},
      {"a gold file", "ignored", "", {"--test-gold", "nowhere.txt"}, 3, {"nowhere.txt"}},
  };
  for (const auto& refusal : refusals) {
    SCOPED_TRACE(refusal.name);
    const Scratch scratch;
    write_task(scratch, 4, 4);
    write_text(scratch / refusal.file, refusal.content);
    const auto outcome = run(teleclass(scratch, refusal.more));
    EXPECT_EQ(outcome.exit_code, refusal.exit_code) << outcome.output;
    for (const auto& text : refusal.says)
      EXPECT_TRUE(outcome.contains(text)) << text << ": " << outcome.output;
    EXPECT_FALSE(exists(scratch / "out"));
  }
}

TEST_F(Teleclass, ReportAndVerifyWorkOnTheWhole) {
  const Scratch scratch;
  copy_whole(scratch);
  const auto page = run({muster_program(), "report", scratch / "out"});
  EXPECT_EQ(page.exit_code, 0) << page.output;
  const std::string html = read_text(scratch / "out/report.html");
  for (const char* text : {"Scores against the gold labels", "worst confusions", "Stages", "zero_shot",
                           "Loss", "Class balance", "Peak memory of each rank", "All settings"})
    EXPECT_NE(html.find(text), std::string::npos) << text;
  EXPECT_EQ(run({muster_program(), "verify", scratch / "out"}).exit_code, 0);
  for (const char* stage : {"labels", "scores"})
    EXPECT_EQ(run({muster_program(), "report", scratch / "out/" + stage}).exit_code, 0) << stage;
  std::string bytes = read_text(scratch / "out/documents/embeddings.h5");
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_text(scratch / "out/documents/embeddings.h5", bytes);
  const auto outcome = run({muster_program(), "verify", scratch / "out"});
  EXPECT_EQ(outcome.exit_code, 3) << outcome.output;
  EXPECT_TRUE(outcome.contains("embeddings.h5")) << outcome.output;
}

TEST_F(Teleclass, PlanAndDryRunWriteNothing) {
  const Scratch scratch;
  write_task(scratch, 4, 4);
  for (const auto& outcome :
       {run(teleclass(scratch, {"--dry-run"})), run({muster_program(), "plan", "--job", "teleclass", "-m",
                                                     tiny_encoder(), "--data", scratch / "data"})}) {
    EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
    EXPECT_TRUE(outcome.contains("plan: encode")) << outcome.output;
    EXPECT_TRUE(outcome.contains("plan: train")) << outcome.output;
    EXPECT_TRUE(outcome.contains("master weights")) << outcome.output;
  }
  EXPECT_FALSE(exists(scratch / "out"));
}

}  // namespace
}  // namespace muster::test
