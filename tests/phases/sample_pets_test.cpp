// SPDX-License-Identifier: Apache-2.0
// The small model that comes with muster, through the first command of the README.
#include <gtest/gtest.h>

#include <cstdlib>

#include "sample_support.h"

namespace muster::test {
namespace {

/// 0 to 255.
double mean_difference(const formats::Image& a, const formats::Image& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) sum += std::abs(int{a.pixels[i]} - int{b.pixels[i]});
  return sum / static_cast<double>(a.pixels.size());
}

TEST_F(Sample, DrawsThePetsOfTheReadme) {
  const auto outcome =
      run({muster_program(), "sample", "-n", "2", "--model", source_file("configs/models/tiny-emoji"),
           "--prompts", "A cat", "A dog", "A bird", "A fish", "--output", out()});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const auto drawn = decoded(read_text(out() + "/contact_sheet.png")).image;
  const auto documented = decoded(read_text(source_file("docs/images/pets.png"))).image;
  ASSERT_EQ(drawn.width, documented.width);
  ASSERT_EQ(drawn.height, documented.height);
  // Another compute type or instruction set makes 0.3, two animals in each other's places 20.
  EXPECT_LT(mean_difference(drawn, documented), 3);
}

}  // namespace
}  // namespace muster::test
