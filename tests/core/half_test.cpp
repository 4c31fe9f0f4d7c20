// SPDX-License-Identifier: Apache-2.0
#include "muster/core/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace muster::core {
namespace {

TEST(Half, EveryPatternSurvivesARoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float wide = half_to_float(half);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(half_to_float(float_to_half(wide))));
    } else {
      EXPECT_EQ(float_to_half(wide), half) << bits;
    }
  }
}

TEST(Half, RoundsToNearestTiesToEven) {
  struct Case {
    float value;
    float expected;
  };
  const float inf = std::numeric_limits<float>::infinity();
  for (const auto& c : {Case{1.0f + 0x1p-11f, 1.0f},
                        {1.0f + 0x3p-11f, 1.0f + 0x1p-9f},
                        {1.0f + 0x1.1p-11f, 1.0f + 0x1p-10f},
                        {65504.0f, 65504.0f},
                        {65519.0f, 65504.0f},
                        {65520.0f, inf},
                        {1e30f, inf},
                        {-1e30f, -inf},
                        {0x1p-24f, 0x1p-24f},
                        {0x1p-25f, 0.0f},
                        {0x1.1p-25f, 0x1p-24f},
                        {-0.0f, -0.0f}}) {
    EXPECT_EQ(half_to_float(float_to_half(c.value)), c.expected) << c.value;
  }
}

TEST(BFloat16, EveryPatternSurvivesARoundTripAndRounds) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float wide = bfloat16_to_float(half);
    if (!std::isnan(wide)) {
      EXPECT_EQ(float_to_bfloat16(wide), half);
    } else {
      EXPECT_TRUE(std::isnan(bfloat16_to_float(float_to_bfloat16(wide))));
    }
  }
  EXPECT_EQ(bfloat16_to_float(float_to_bfloat16(1.0f + 0x1p-8f)), 1.0f);
  EXPECT_EQ(bfloat16_to_float(float_to_bfloat16(1.0f + 0x3p-8f)), 1.0f + 0x1p-6f);
}

}  // namespace
}  // namespace muster::core
