// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <string_view>

#include "muster/core/digest.h"
#include "muster/core/philox.h"
#include "muster/diffusion/text_to_image.h"
#include "support.h"

namespace muster::diffusion {
namespace {

std::vector<float> noise(std::uint64_t seed, std::uint32_t stream, std::size_t count) {
  std::vector<float> out(count);
  fill_noise(seed, stream, out);
  return out;
}

// Box and Muller's formula with the library's functions.
TEST(Noise, IsWhatTheFormulaSays) {
  constexpr std::uint64_t kSeed = 0x123456789abcdef0;
  const auto computed = noise(kSeed, 3, 4000);
  for (std::size_t i = 0; i < computed.size(); i += 2) {
    const auto bits =
        core::philox4x32({static_cast<std::uint32_t>(i / 4), 3, 0x6e6f6973, 0}, {0x9abcdef0, 0x12345678});
    const double uniform = (bits[i % 4] + 0.5) * 0x1p-32, turn = bits[i % 4 + 1] * 0x1p-32;
    const double radius = std::sqrt(-2 * std::log(uniform)), angle = 2 * std::numbers::pi * turn;
    EXPECT_NEAR(computed[i], radius * std::cos(angle), 4e-7) << i;
    EXPECT_NEAR(computed[i + 1], radius * std::sin(angle), 4e-7) << i;
  }
}

// Whatever machine and library compute them: a change of one bit is a change of every picture.
TEST(Noise, IsTheSameBitsEverywhere) {
  const auto values = noise(42, 0, 1 << 16);
  const std::string_view bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  EXPECT_EQ(core::sha256_hex(bytes), "52b10fd7c3c6f0a9f866598424934e9967f06f46fce339eec0577e811d3ef3ec");
}

TEST(Noise, IsAFunctionOfSeedStreamAndPlace) {
  const auto all = noise(7, 0, 1000);
  for (const std::size_t count : {0, 1, 2, 3, 5, 999}) {
    const auto some = noise(7, 0, count);
    EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin())) << count;
  }
  EXPECT_NE(noise(7, 1, 1000), all);
  EXPECT_NE(noise(8, 0, 1000), all);
  EXPECT_NE(noise(7 + (std::uint64_t{1} << 32), 0, 1000), all);
}

TEST(Noise, IsStandardNormal) {
  constexpr std::size_t kCount = 1 << 20;
  const auto values = noise(1, 0, kCount);
  double sum = 0, squares = 0, fourths = 0, neighbours = 0;
  std::size_t beyond_three = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    const double x = values[i];
    sum += x;
    squares += x * x;
    fourths += x * x * x * x;
    if (i > 0) neighbours += x * values[i - 1];
    if (std::abs(x) > 3) ++beyond_three;
  }
  const double n = kCount;  // tolerances: five standard errors
  EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2 / n));
  EXPECT_NEAR(fourths / n, 3, 5 * std::sqrt(96 / n));
  EXPECT_NEAR(neighbours / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(beyond_three / n, 0.0026998, 5 * std::sqrt(0.0027 / n));
}

TEST(PictureSeed, IsDocumented) {
  EXPECT_EQ(picture_seed(5, 0, 0), 5U);
  EXPECT_EQ(picture_seed(5, 3, 0), 8U);
  EXPECT_EQ(picture_seed(5, 3, 2), 8U + (std::uint64_t{2} << 32));
  EXPECT_EQ(picture_seed((std::uint64_t{1} << 63) - 1, 1, 0), 0U);
}

}  // namespace
}  // namespace muster::diffusion
