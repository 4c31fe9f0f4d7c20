// SPDX-License-Identifier: Apache-2.0
// The pseudo-labels of `teleclass` against the plain method in double, and the parts they are made of.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "muster/io/hdf5_results.h"
#include "phases/labels/class_files.h"
#include "phases/labels/label_file.h"
#include "phases/teleclass/class_rounds.h"
#include "phases/teleclass/options.h"
#include "phases/teleclass/unit_rows.h"
#include "teleclass_task.h"

namespace muster::test {
namespace {

constexpr std::size_t kTrain = 90, kTest = 50;

/// The plain method, in double and on one heap.
struct PlainMethod {
  using Vector = std::vector<double>;
  std::vector<Vector> documents, classes;

  static std::vector<Vector> read(const std::string& path) {
    const io::H5Reader reader(path);
    const auto shape = reader.shape("/embeddings");
    const auto values = reader.read_rows("/embeddings", 0, shape.at(0));
    std::vector<Vector> rows;
    for (std::size_t row = 0; row < shape.at(0); ++row) {
      const auto begin = values.begin() + static_cast<std::ptrdiff_t>(row * shape.at(1));
      rows.push_back(unit({begin, begin + static_cast<std::ptrdiff_t>(shape.at(1))}));
    }
    return rows;
  }
  static double dot(const Vector& a, const Vector& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  }
  static Vector unit(Vector v) {
    const double length = std::sqrt(dot(v, v));
    for (double& x : v) x /= length;
    return v;
  }
  void round(std::size_t most) {
    for (auto& vector : classes) {
      std::vector<std::size_t> order(documents.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return dot(documents[a], vector) > dot(documents[b], vector);
      });
      Vector mean(vector.size());
      for (std::size_t i = 0; i < most; ++i)
        for (std::size_t d = 0; d < mean.size(); ++d) mean[d] += documents[order[i]][d];
      vector = unit(mean);
    }
  }
  std::vector<int> labels(const Vector& document) const {
    std::vector<std::pair<float, int>> best;  // equal vectors must give equal scores
    for (std::size_t id = 0; id < classes.size(); ++id)
      best.emplace_back(-static_cast<float>(dot(document, classes[id])), static_cast<int>(id));
    std::sort(best.begin(), best.end());
    std::size_t count = 1;
    float largest = 0;
    for (std::size_t i = 0; i < 5; ++i) {
      const float gap = best[i + 1].first - best[i].first;
      if (gap > largest) {
        largest = gap;
        count = i + 1;
      }
    }
    std::vector<int> labels;
    for (std::size_t i = 0; i < std::max<std::size_t>(count, 2); ++i) labels.push_back(best[i].second);
    return labels;
  }
};

TEST(TeleclassLabels, AreThoseOfThePlainMethod) {
  const Scratch scratch;
  write_task(scratch, kTrain, kTest);
  const auto outcome = run(teleclass(scratch, {"--until", "labels"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;

  PlainMethod plain{PlainMethod::read(scratch / "out/documents/embeddings.h5"),
                    PlainMethod::read(scratch / "out/classes/embeddings.h5")};
  for (int round = 0; round < 3; ++round) plain.round(20);
  const auto space = phases::read_label_space(small_task("classes.txt"), "", "");
  const auto rows = phases::read_labels(scratch / "out/labels/pseudo_labels.tsv", space.names);
  ASSERT_EQ(rows.size(), kTrain + kTest);
  EXPECT_EQ(rows.front().id, "train/0");
  EXPECT_EQ(rows.back().id, fmt::format("test/{}", kTest - 1));
  std::size_t same = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) same += rows[i].labels == plain.labels(plain.documents[i]);
  // Scores that differ in float alone may change places.
  EXPECT_GE(same, rows.size() - 2);
}

TEST(TeleclassLabels, ClassTexts) {
  const phases::LabelSpace space{.names = {"pet_food", "odd {keywords}"},
                                 .hierarchy = taxonomy::Hierarchy(2),
                                 .keywords = {{"dry_food", "cans"}, {}}};
  EXPECT_EQ(phases::class_texts(space, "It is {name}, with: {keywords}"),
            "id\ttext\n0\tIt is pet food, with: dry food, cans\n1\tIt is odd {keywords}\n");
  EXPECT_EQ(phases::class_texts(space, "{keywords} - {name}"),
            "id\ttext\n0\tdry food, cans - pet food\n1\t - odd {keywords}\n");
}

TEST(TeleclassLabels, TheBestDocumentsDoNotDependOnTheOrder) {
  const std::vector<phases::Hit> hits{{.row = 5, .score = 0.5F}, {.row = 2, .score = 0.5F},
                                      {.row = 9, .score = 0.9F}, {.row = 1, .score = 0.1F},
                                      {.row = 3, .score = 0.5F}, {.row = 0, .score = -1}};
  std::vector<std::size_t> order{0, 1, 2, 3, 4, 5};
  do {
    phases::BestDocuments best(1, 3);
    for (const auto i : order) best.add(0, hits[i]);
    std::set<std::uint64_t> rows;
    for (const auto& hit : best.of(0)) rows.insert(hit.row);
    ASSERT_EQ(rows, (std::set<std::uint64_t>{2, 3, 9}));  // of equal ones the smaller rows
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(TeleclassLabels, RowsWithoutADirection) {
  const float infinite = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  for (const auto& row : {std::vector<float>{0, 0}, {nan, 1}, {infinite, 1}}) {
    auto values = row;
    EXPECT_FALSE(phases::scale_to_unit(values));
    EXPECT_EQ(values, (std::vector<float>{0, 0}));
  }
  std::vector<float> values{3, 4};
  EXPECT_TRUE(phases::scale_to_unit(values));
  EXPECT_EQ(values, (std::vector<float>{0.6F, 0.8F}));
}

TEST(TeleclassLabels, ScoresDoNotDependOnOtherRows) {
  constexpr std::size_t kRows = 300, kDimensions = 32, kClasses = 21;
  core::Philox random(1, 2);
  const auto fill = [&](std::vector<float>& values) {
    for (float& value : values) value = static_cast<float>(random.next_below(2001)) / 1000 - 1;
  };
  phases::UnitRows all{.range = {0, kRows}, .dimensions = kDimensions, .values = {}, .usable = {}};
  all.values.resize(kRows * kDimensions);
  all.usable.assign(kRows, 1);
  fill(all.values);
  phases::ClassVectors classes{.classes = kClasses, .dimensions = kDimensions, .values = {}};
  classes.values.resize(kClasses * kDimensions);
  fill(classes.values);
  const auto scores = [&](const phases::UnitRows& rows, int workers) {
    phases::WorkerTeam team(workers);
    std::vector<float> out(rows.count() * kClasses);
    phases::for_each_score_block(rows, classes, team, [&](const phases::ScoreBlock& block) {
      std::copy(block.scores.begin(), block.scores.end(),
                out.begin() + static_cast<std::ptrdiff_t>(block.first * kClasses));
    });
    return out;
  };
  const auto whole = scores(all, 1);
  EXPECT_EQ(whole, scores(all, 3));
  for (std::size_t row : {std::size_t{0}, std::size_t{255}, kRows - 1}) {
    const auto values = all.row(row);
    const phases::UnitRows one{.range = {row, 1},
                               .dimensions = kDimensions,
                               .values = {values.begin(), values.end()},
                               .usable = {1}};
    const auto alone = scores(one, 1);
    for (std::size_t id = 0; id < kClasses; ++id) {
      EXPECT_EQ(alone[id], whole[row * kClasses + id]);
      double sum = 0;
      for (std::size_t d = 0; d < kDimensions; ++d) sum += static_cast<double>(values[d]) * classes.of(id)[d];
      EXPECT_NEAR(alone[id], sum, 1e-5);
    }
  }
}

}  // namespace
}  // namespace muster::test
