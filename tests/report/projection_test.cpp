// SPDX-License-Identifier: Apache-2.0
#include "muster/report/projection.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "muster/core/philox.h"

namespace muster::report {
namespace {

constexpr std::size_t kColumns = 19;  // no multiple of the lanes

struct Cloud {
  std::vector<float> values;
  std::vector<std::size_t> labels;
  Rows rows() const { return {values, kColumns}; }
};

/// Clusters on random corners, so far apart that each row's nearest neighbour is of its own.
Cloud clusters(std::size_t count, std::size_t each) {
  core::Philox random(7, 0);
  Cloud cloud;
  for (std::size_t c = 0; c < count; ++c) {
    std::vector<float> middle(kColumns);
    for (auto& m : middle) m = random.next_uniform() < 0.5F ? -2.0F : 2.0F;
    for (std::size_t i = 0; i < each; ++i) {
      for (const float m : middle) cloud.values.push_back(m + random.next_uniform() - 0.5F);
      cloud.labels.push_back(c);
    }
  }
  return cloud;
}

std::vector<float> flat(const std::vector<PlanePoint>& points) {
  std::vector<float> out;
  for (const auto& p : points) {
    out.push_back(p.x);
    out.push_back(p.y);
  }
  return out;
}

TEST(Tsne, KeepsNeighboursThatTwoPrincipalComponentsLose) {
  const auto cloud = clusters(40, 12);
  ASSERT_EQ(neighbour_agreement(cloud.rows(), cloud.labels), 1.0);
  const auto plane = flat(tsne_plane(cloud.rows())), components = flat(principal_plane(cloud.rows()));
  EXPECT_GE(neighbour_agreement({plane, 2}, cloud.labels), 0.98);
  EXPECT_LT(neighbour_agreement({components, 2}, cloud.labels), 0.85);
}

TEST(Tsne, GivesTheSamePictureEveryTime) {
  const auto cloud = clusters(4, 30);
  const auto first = flat(tsne_plane(cloud.rows())), second = flat(tsne_plane(cloud.rows()));
  EXPECT_EQ(std::memcmp(first.data(), second.data(), first.size() * sizeof(float)), 0);
}

TEST(Tsne, TakesAnyRows) {
  struct Case {
    const char* what;
    std::vector<float> values;
  };
  for (const auto& c : {Case{"nothing", {}}, Case{"one row", std::vector<float>(kColumns, 1)},
                        Case{"two rows", std::vector<float>(2 * kColumns, 1)},
                        Case{"equal rows", std::vector<float>(40 * kColumns, 3)},
                        Case{"zeros", std::vector<float>(9 * kColumns, 0)}}) {
    const Rows rows{c.values, kColumns};
    const auto plane = tsne_plane(rows);
    EXPECT_EQ(plane.size(), rows.count()) << c.what;
    for (const float v : flat(plane)) EXPECT_TRUE(std::isfinite(v) && std::abs(v) <= 1) << c.what;
  }
}

TEST(PrincipalPlane, FindsTheDirectionsOfTheLargestSpread) {
  // Spread 10 along the diagonal of the first two columns, 3 along the third, little elsewhere.
  core::Philox random(1, 0);
  std::vector<float> values, along, across;
  const auto noise = [&] { return random.next_uniform() - 0.5F; };
  for (int i = 0; i < 400; ++i) {
    along.push_back(20 * noise());
    across.push_back(6 * noise());
    std::vector<float> row(kColumns);
    for (auto& v : row) v = 0.1F * noise() + 5;
    row[0] += along.back() / std::sqrt(2.0F);
    row[1] += along.back() / std::sqrt(2.0F);
    row[2] += across.back();
    values.insert(values.end(), row.begin(), row.end());
  }
  const auto plane = principal_plane({values, kColumns});
  double xa = 0, xx = 0, aa = 0, yc = 0, yy = 0, cc = 0;
  for (std::size_t i = 0; i < plane.size(); ++i) {
    xa += plane[i].x * along[i];
    xx += plane[i].x * plane[i].x;
    aa += along[i] * along[i];
    yc += plane[i].y * across[i];
    yy += plane[i].y * plane[i].y;
    cc += across[i] * across[i];
  }
  EXPECT_GT(std::abs(xa) / std::sqrt(xx * aa), 0.99);
  EXPECT_GT(std::abs(yc) / std::sqrt(yy * cc), 0.98);
}

}  // namespace
}  // namespace muster::report
