// SPDX-License-Identifier: Apache-2.0
// From texts to submission.csv and predictions.h5 with the tiny classifier (generate_classifier.py): nine
// classes in a hierarchy, some of their names with commas and quotes.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>

#include "muster/core/strings.h"
#include "muster/formats/safetensors.h"
#include "muster/formats/table.h"
#include "muster/io/hdf5_results.h"
#include "system.h"

namespace muster::test {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kDocuments = 64;
constexpr std::size_t kClasses = 9;
constexpr double kTolerance = 2e-5;

std::string tiny_classifier(const std::string& file = "") {
  return source_file("tests/phases/fixtures/tiny_classifier" + (file.empty() ? "" : "/" + file));
}

/// muster infer of scratch/in.tsv to scratch/out in float32 on one worker, unless `more` says otherwise.
Command infer(const Scratch& scratch, const Command& more = {}) {
  Command command{muster_program(), "infer"};
  const std::pair<std::string, std::string> usual[] = {{"-m", tiny_classifier()},
                                                       {"-i", scratch / "in.tsv"},
                                                       {"-o", scratch / "out"},
                                                       {"--dtype", "fp32"},
                                                       {"--workers", "1"}};
  for (const auto& [flag, value] : usual) {
    if (std::find(more.begin(), more.end(), flag) == more.end()) command = command + Command{flag, value};
  }
  return command + more;
}

using Row = std::vector<std::string>;

std::vector<Row> read_csv(const std::string& path) {
  const auto reader = formats::make_csv_reader(formats::open_file_source(path));
  std::vector<Row> rows;
  for (formats::TableRow row; reader->next(row);) {
    EXPECT_EQ(row.problem, "");
    rows.emplace_back(row.fields.begin(), row.fields.end());
  }
  return rows;
}

std::vector<int> numbers(const std::string& list) {
  std::vector<int> out;
  for (const auto& part : core::split(list, ',')) out.push_back(std::stoi(part));
  return out;
}

/// The reference's logits of the first documents of the sample.
std::vector<std::vector<float>> expected_logits() {
  const auto file = formats::Safetensors::open(tiny_classifier("expected.safetensors"));
  const auto view = file.find("logits").value();
  std::vector<std::vector<float>> rows(view.shape.at(0), std::vector<float>(kClasses));
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::memcpy(rows[i].data(), view.bytes.data() + i * kClasses * sizeof(float), kClasses * sizeof(float));
  return rows;
}

std::vector<int> best_first(const std::vector<float>& logits) {
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  return order;
}

/// One job over the first documents of the sample.
class Finished {
 public:
  explicit Finished(const Command& flags = {}) {
    write_text(scratch_ / "in.tsv", as_tsv(sample(kDocuments)));
    outcome_ = run(infer(scratch_, flags));
    EXPECT_EQ(outcome_.exit_code, 0) << outcome_.output;
  }
  std::vector<Row> rows() const { return read_csv(scratch_ / "out/submission.csv"); }
  std::string csv() const { return read_text(scratch_ / "out/submission.csv"); }
  std::string out() const { return scratch_ / "out"; }
  io::H5Reader predictions() const { return io::H5Reader(scratch_ / "out/predictions.h5"); }
  const Outcome& outcome() const { return outcome_; }

 private:
  Scratch scratch_;
  Outcome outcome_;
};

TEST(Infer, TopThreeAndScoresAreThoseOfTransformers) {
  const Finished job({"--logits", "--probabilities", "--top-probabilities", "2"});
  const auto rows = job.rows();
  const auto documents = sample(kDocuments);
  const auto expected = expected_logits();
  ASSERT_EQ(rows.size(), kDocuments + 1);
  EXPECT_EQ(rows[0], (Row{"id", "labels"}));
  const auto file = job.predictions();
  const auto logits = file.read_rows("/logits", 0, kDocuments);
  const auto probabilities = file.read_rows("/probabilities", 0, kDocuments);
  const auto scores = file.read_rows("/scores", 0, kDocuments);
  const auto top = file.read_i32("/top_classes", 0, kDocuments);
  const auto top_scores = file.read_rows("/top_scores", 0, kDocuments);
  for (std::size_t i = 0; i < kDocuments; ++i) {
    EXPECT_EQ(rows[i + 1][0], documents[i].id);
    auto order = best_first(expected[i]);
    for (std::size_t c = 0; c < kClasses; ++c) {
      EXPECT_NEAR(logits[i * kClasses + c], expected[i][c], kTolerance);
      EXPECT_NEAR(probabilities[i * kClasses + c], 1 / (1 + std::exp(-expected[i][c])), kTolerance);
    }
    EXPECT_EQ(top[2 * i], order[0]);
    EXPECT_EQ(top[2 * i + 1], order[1]);
    EXPECT_EQ(top_scores[2 * i + 1], scores[3 * i + 1]);
    EXPECT_EQ(scores[3 * i + 2], probabilities[i * kClasses + static_cast<std::size_t>(order[2])]);
    order.resize(3);
    EXPECT_EQ(numbers(rows[i + 1][1]), order) << documents[i].id;
  }
  const auto again = run({muster_program(), "verify", job.out(), "--redo", "20"});
  EXPECT_TRUE(again.contains("20 items recomputed, 0 differ")) << again.output;
}

TEST(Infer, EveryWayToRunGivesTheSameBytes) {
  const Scratch scratch;
  // Twins, an empty text and one of 12,000 words among them; ids that a CSV must quote.
  auto documents = sample(160);
  documents.push_back({"twin, \"quoted\"", documents[5].text});
  documents.push_back({"blank", ""});
  std::string words;
  for (int i = 0; i < 12000; ++i) words += fmt::format("word{} ", i % 700);
  documents.push_back({"long", words});
  write_text(scratch / "in.tsv", as_tsv(documents));
  struct Way {
    int ranks;
    Command flags;
  };
  const Way ways[] = {{1, {}},
                      {1, {"--workers", "2", "--batch-size", "7"}},
                      {2, {"--schedule", "ceil", "--batch-tokens", "300"}},
                      {3, {"--schedule", "dynamic", "--set", "run.window_items=50"}}};
  std::string csv;
  std::vector<float> scores;
  std::vector<std::int32_t> labels;
  for (const Way& way : ways) {
    const Command command = infer(scratch, way.flags + Command{"--fresh", "--labels", "threshold"});
    const auto outcome = run(way.ranks == 1 ? command : mpirun(way.ranks) + command);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
    const io::H5Reader file(scratch / "out/predictions.h5");
    if (csv.empty()) {
      csv = read_text(scratch / "out/submission.csv");
      scores = file.read_rows("/scores", 0, documents.size());
      labels = file.read_i32("/labels", 0, documents.size());
    }
    EXPECT_EQ(read_text(scratch / "out/submission.csv"), csv) << way.ranks << " ranks";
    EXPECT_EQ(file.read_rows("/scores", 0, documents.size()), scores) << way.ranks << " ranks";
    EXPECT_EQ(file.read_i32("/labels", 0, documents.size()), labels) << way.ranks << " ranks";
  }
  const auto rows = read_csv(scratch / "out/submission.csv");
  ASSERT_EQ(rows.size(), documents.size() + 1);
  for (std::size_t i = 0; i < documents.size(); ++i) ASSERT_EQ(rows[i + 1][0], documents[i].id);
  EXPECT_EQ(rows[161][1], rows[6][1]) << "equal texts";
  EXPECT_NE(csv.find("\n\"twin, \"\"quoted\"\"\","), std::string::npos);
  const io::H5Reader file(scratch / "out/predictions.h5");
  EXPECT_EQ(file.read_u8("/truncated", 162, 1).at(0), 1);
  const std::size_t width = file.shape("/labels").at(1);
  const auto counts = file.read_i32("/n_labels", 0, documents.size());
  EXPECT_EQ(static_cast<std::size_t>(*std::max_element(counts.begin(), counts.end())), width);
  for (std::size_t i = 0; i < documents.size(); ++i) {
    for (std::size_t k = 0; k < width; ++k)
      ASSERT_EQ(labels[i * width + k] == -1, k >= static_cast<std::size_t>(counts[i])) << "row " << i;
  }
}

std::set<int> ancestors_of(int label) {
  static const std::vector<std::set<int>> table{{}, {}, {}, {0}, {0}, {1}, {0, 1}, {0, 4}, {0, 2, 3}};
  return table.at(static_cast<std::size_t>(label));
}

Command with_hierarchy() {
  return {"--hierarchy", tiny_classifier("hierarchy.txt"), "--classes", tiny_classifier("classes.txt")};
}

TEST(Infer, AncestorsAreAddedBehindTheLabels) {
  const Finished plain({"--labels", "argmax"});
  const Finished closed(Command{"--labels", "argmax", "--ancestors"} + with_hierarchy());
  const auto a = plain.rows(), b = closed.rows();
  std::size_t longer = 0;
  for (std::size_t i = 1; i <= kDocuments; ++i) {
    const int label = numbers(a[i][1]).at(0);
    std::vector<int> expected{label};
    const auto above = ancestors_of(label);
    expected.insert(expected.end(), above.begin(), above.end());
    EXPECT_EQ(numbers(b[i][1]), expected) << a[i][0];
    longer += expected.size() > 1 ? 1 : 0;
  }
  EXPECT_GT(longer, kDocuments / 3);
}

// However few labels a document may have, what is left is closed under ancestors, and the next best are added
// where there are too few.
TEST(Infer, NumbersOfLabelsStayWithinTheirLimits) {
  const Finished job(Command{"--labels", "argmax", "--ancestors", "--min-labels", "2", "--max-labels", "3"} +
                     with_hierarchy());
  std::set<std::size_t> counts;
  for (const auto& row : job.rows()) {
    if (row[0] == "id") continue;
    const auto labels = numbers(row[1]);
    counts.insert(labels.size());
    for (const int label : labels) {
      for (const int above : ancestors_of(label))
        EXPECT_NE(std::find(labels.begin(), labels.end(), above), labels.end()) << row[0] << " " << row[1];
    }
  }
  EXPECT_EQ(counts, (std::set<std::size_t>{2, 3}));
}

TEST(Infer, ThresholdTakesAllAboveItOrTheBest) {
  const Finished job({"--labels", "threshold", "--threshold", "0.6"});
  const auto expected = expected_logits();
  const auto rows = job.rows();
  for (std::size_t i = 0; i < kDocuments; ++i) {
    std::vector<int> labels;
    for (const int label : best_first(expected[i])) {
      if (labels.empty() || 1 / (1 + std::exp(-expected[i][static_cast<std::size_t>(label)])) >= 0.6)
        labels.push_back(label);
    }
    EXPECT_EQ(numbers(rows[i + 1][1]), labels) << rows[i + 1][0];
  }
}

// The best of all ways down from a root, found by trying them all.
TEST(Infer, PathIsTheBestWayDown) {
  const std::vector<std::vector<int>> ways{{0, 3}, {0, 4},    {1, 5},    {1, 6},
                                           {0, 6}, {0, 4, 7}, {0, 3, 8}, {2, 8}};
  const Finished job(Command{"--labels", "path"} + with_hierarchy());
  const auto expected = expected_logits();
  const auto rows = job.rows();
  std::set<std::vector<int>> found;
  for (std::size_t i = 0; i < kDocuments; ++i) {
    std::vector<int> best;
    double best_score = -INFINITY;
    for (const auto& way : ways) {
      double sum = 0;
      for (const int label : way) sum -= std::log1p(std::exp(-expected[i][static_cast<std::size_t>(label)]));
      const double score = sum / std::pow(static_cast<double>(way.size()), 3);
      if (score > best_score) best = way;
      best_score = std::max(best_score, score);
    }
    EXPECT_EQ(numbers(rows[i + 1][1]), best) << rows[i + 1][0];
    found.insert(best);
  }
  EXPECT_GT(found.size(), 2u);
}

TEST(Infer, StylesOfTheSubmission) {
  const Finished ids({"--header", "id,label", "--separator", " "});
  EXPECT_EQ(ids.csv().substr(0, 9), "id,label\n");
  EXPECT_EQ(count_of(ids.csv(), "\""), 0) << "nothing to quote";
  EXPECT_EQ(core::split(ids.rows().at(1).at(1), ' ').size(), 3u);

  const Finished names({"--label-style", "names", "--separator", "|", "--labels", "argmax"});
  const auto expected = expected_logits();
  const std::vector<std::string> classes{"software", "games",       "documents",
                                         "editors",  "servers",     "puzzles, boards",
                                         "strategy", "web servers", "\"the\" editor"};
  const auto rows = names.rows();
  for (std::size_t i = 0; i < kDocuments; ++i)
    EXPECT_EQ(rows[i + 1][1], classes.at(static_cast<std::size_t>(best_first(expected[i])[0])));
  EXPECT_NE(names.csv().find(",\"puzzles, boards\"\n"), std::string::npos);
  EXPECT_NE(names.csv().find(",\"\"\"the\"\" editor\"\n"), std::string::npos);

  const Finished onehot({"--label-style", "onehot", "--top-k", "2"});
  auto header = Row{"id"};
  header.insert(header.end(), classes.begin(), classes.end());
  EXPECT_EQ(onehot.rows()[0], header);
  for (std::size_t i = 0; i < kDocuments; ++i) {
    const auto order = best_first(expected[i]);
    for (int c = 0; c < static_cast<int>(kClasses); ++c)
      EXPECT_EQ(onehot.rows()[i + 1][static_cast<std::size_t>(c) + 1],
                c == order[0] || c == order[1] ? "1" : "0");
    if (i == 3) break;
  }

  const Finished probabilities({"--label-style", "probabilities", "--activation", "softmax"});
  const auto table = probabilities.rows();
  EXPECT_EQ(table[0], header);
  for (std::size_t i = 1; i < table.size(); ++i) {
    double sum = 0;
    for (std::size_t c = 1; c <= kClasses; ++c) sum += std::stod(table[i][c]);
    EXPECT_NEAR(sum, 1, 1e-5);
  }
  const auto again = run({muster_program(), "verify", probabilities.out(), "--redo", "5"});
  EXPECT_TRUE(again.contains("5 items recomputed, 0 differ")) << again.output;
}

TEST(Infer, ReportCountsTheLabels) {
  const Finished job;
  const auto html = read_text(job.out() + "/report.html");
  for (const char* part : {"Labels of a document", "Scores of the labels", "9 of 9", "puzzles, boards"})
    EXPECT_NE(html.find(part), std::string::npos) << part;
  const auto search = run({muster_program(), "search", job.out(), "an editor"});
  EXPECT_EQ(search.exit_code, 3);
  EXPECT_TRUE(search.contains("was made by `muster infer`, which publishes no embeddings")) << search.output;
}

TEST(Infer, ResumesAfterAKillWithTheSameBytes) {
  const Finished reference;
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(kDocuments)));
  const Command job = infer(scratch, {"--batch-size", "4", "--set", "run.commit_interval=1ms"});
  const auto killed = run(mpirun(2) + job, {{"MUSTER_FAULT", "worker.before_batch:1:6:kill"}});
  ASSERT_NE(killed.exit_code, 0) << killed.output;
  const auto unnamed = run(job, {{"MUSTER_FAULT", "publish.csv_written:0:1:kill"}});
  ASSERT_NE(unnamed.exit_code, 0) << unnamed.output;
  EXPECT_GT(resumed_items(unnamed).value_or(0), 0) << unnamed.output;
  EXPECT_FALSE(exists(scratch / "out/submission.csv")) << "unchecked, so without its name";
  const auto rest = run(job);
  ASSERT_EQ(rest.exit_code, 0) << rest.output;
  EXPECT_EQ(resumed_items(rest).value_or(0), static_cast<int>(kDocuments)) << rest.output;
  EXPECT_EQ(read_text(scratch / "out/submission.csv"), reference.csv());
  EXPECT_FALSE(exists(scratch / "out/submission.csv.tmp"));
}

/// A copy of the classifier whose tensor `name` begins with a NaN.
std::string with_nan(const Scratch& scratch, const std::string& name) {
  fs::copy(tiny_classifier(), scratch / "model", fs::copy_options::recursive);
  const std::string path = scratch / "model/model.safetensors";
  const auto file = formats::Safetensors::open(path);
  const auto bytes = file.find(name).value().bytes;
  std::string content = read_text(path);
  std::uint64_t header = 0;
  std::memcpy(&header, content.data(), sizeof header);
  const auto parsed = formats::parse_safetensors_header(std::as_bytes(std::span(content)), path);
  const float nan = NAN;
  std::memcpy(content.data() + parsed.data_offset + parsed.tensors.at(name).begin, &nan, sizeof nan);
  EXPECT_GE(bytes.size(), sizeof nan);
  write_text(path, content);
  return scratch / "model";
}

TEST(Infer, LogitsThatAreNaNFailTheirDocuments) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(20)));
  const auto outcome = run(infer(scratch, {"-m", with_nan(scratch, "classifier.bias")}));
  EXPECT_EQ(outcome.exit_code, 4) << outcome.output;
  EXPECT_EQ(count_of(read_text(scratch / "out/failures.jsonl"), "a logit is not finite"), 20);
  EXPECT_EQ(read_text(scratch / "out/submission.csv"), "id,labels\n");
  EXPECT_EQ(io::H5Reader(scratch / "out/predictions.h5").shape("/labels").at(0), 0u);
}

TEST(Infer, NoDocumentsGiveAHeader) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", "id\ttext\n");
  for (const char* style : {"ids", "probabilities"}) {
    const auto outcome = run(mpirun(2) + infer(scratch, {"--fresh", "--label-style", style}));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
    EXPECT_EQ(count_of(read_text(scratch / "out/submission.csv"), "\n"), 1);
  }
}

struct Refusal {
  Command flags;
  int exit_code;
  std::vector<std::string> parts;
};

TEST(Infer, RefusesWhatDoesNotFit) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(3)));
  write_text(scratch / "eight.txt", "0\ta\n1\tb\n2\tc\n3\td\n4\te\n5\tf\n6\tg\n7\th\n");
  write_text(scratch / "edges.txt", "0\t3\n2\t9\n");
  const Refusal refusals[] = {
      {{"--classes", scratch / "eight.txt"}, 3, {"eight.txt has 8 classes, but the model gives 9 logits"}},
      {{"--hierarchy", scratch / "edges.txt", "--ancestors"}, 3, {"edges.txt", "line 2", "0 to 8"}},
      {{"--ancestors"}, 2, {"infer.ancestors needs taxonomy.hierarchy"}},
      {{"--labels", "path"}, 2, {"infer.labels path needs taxonomy.hierarchy"}},
      {{"--min-labels", "10"}, 2, {"infer.min_labels is 10, but the model has 9 classes"}},
      {{"--min-labels", "3", "--max-labels", "2"}, 2, {"infer.min_labels is 3, above infer.max_labels 2"}},
      {{"--labels", "threshold", "--threshold", "1.5"}, 2, {"infer.threshold is 1.5"}},
      {{"--header", "id"}, 2, {"output.header is 'id'"}},
      {{"--label-style", "names"}, 2, {"'puzzles, boards' holds the output.separator ','"}},
      {{"-m", tiny_encoder()}, 3, {"is an encoder without a classification head", "muster train"}},
  };
  for (const auto& refusal : refusals) {
    Command command{muster_program(), "plan", "--job", "infer", "-i", scratch / "in.tsv", "--dtype", "fp32"};
    if (refusal.flags.front() != "-m") command = command + Command{"-m", tiny_classifier()};
    const auto outcome = run(command + refusal.flags);
    EXPECT_EQ(outcome.exit_code, refusal.exit_code) << outcome.output;
    for (const auto& part : refusal.parts)
      EXPECT_TRUE(outcome.contains(part)) << part << " is not in\n" << outcome.output;
  }
}

TEST(Infer, PlanAndInfoLoadNoWeights) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(kDocuments)));
  fs::copy(tiny_classifier(), scratch / "model", fs::copy_options::recursive);
  fs::remove(fs::path(scratch / "model/model.safetensors"));
  const auto plan = run({muster_program(), "plan", "--job", "infer", "-m", scratch / "model", "-i",
                         scratch / "in.tsv", "--ranks", "4", "--dtype", "fp32"});
  EXPECT_EQ(plan.exit_code, 0) << plan.output;
  EXPECT_TRUE(plan.contains("plan: infer on 4 ranks")) << plan.output;
  const auto info = run({muster_program(), "info", scratch / "model"});
  EXPECT_TRUE(info.contains("9 classes, linear head, at most 64 tokens")) << info.output;
}

}  // namespace
}  // namespace muster::test
