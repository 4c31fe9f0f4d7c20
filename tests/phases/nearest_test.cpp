// SPDX-License-Identifier: Apache-2.0
#include "phases/commands/nearest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "muster/core/philox.h"

namespace muster::phases {
namespace {

std::vector<float> random_values(std::size_t count, std::uint64_t seed) {
  core::Philox random(seed, 0);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.next_below(2001)) / 1000.0f - 1.0f;
  return values;
}

double cosine(const float* a, const float* b, std::size_t size) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < size; ++i) {
    ab += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

// The best of all rows in fp64, over widths with and without a rest, in blocks of any size.
TEST(CommandsNearest, FindsTheBestRows) {
  for (const std::size_t width : {1u, 15u, 16u, 37u, 768u})
    for (const std::size_t block : {1u, 7u, 100u}) {
      constexpr std::size_t kRows = 100, kTop = 10;
      const auto rows = random_values(kRows * width, 5), query = random_values(width, 6);
      NearestRows nearest(query, kTop);
      for (std::size_t first = 0; first < kRows; first += block) {
        const std::size_t count = std::min(block, kRows - first);
        nearest.add({rows.data() + first * width, count * width}, first);
      }
      const auto hits = nearest.hits();
      ASSERT_EQ(hits.size(), kTop);
      std::vector<double> scores;
      for (std::size_t i = 0; i < kRows; ++i)
        scores.push_back(cosine(rows.data() + i * width, query.data(), width));
      for (const Hit& hit : hits) EXPECT_NEAR(hit.score, scores[hit.position], 1e-5);
      std::sort(scores.rbegin(), scores.rend());
      for (std::size_t i = 0; i < kTop; ++i)
        EXPECT_NEAR(hits[i].score, scores[i], 1e-5) << width << ", place " << i;
    }
}

TEST(CommandsNearest, EqualScoresInOrderAndZerosScoreZero) {
  const std::vector<float> query{1, 0}, rows{0, 0, 2, 0, -1, 0, 5, 0, 0, 3};
  NearestRows nearest(query, 4);
  nearest.add(rows, 10);
  const auto hits = nearest.hits();
  ASSERT_EQ(hits.size(), 4u);
  const std::uint64_t positions[] = {11, 13, 10, 14};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(hits[i].position, positions[i]);
  EXPECT_EQ(hits[0].score, 1.0f);
  EXPECT_EQ(hits[2].score, 0.0f);
  NearestRows all(query, 100);
  all.add(rows, 0);
  EXPECT_EQ(all.hits().size(), 5u);
  NearestRows none(query, 0);
  none.add(rows, 0);
  EXPECT_TRUE(none.hits().empty());
}

}  // namespace
}  // namespace muster::phases
