// SPDX-License-Identifier: Apache-2.0
// Noise must be the same bits on every machine: libraries differ in the last bit of log, sin and cos, so they
// are computed here from sums, products and quotients of doubles alone, which IEEE 754 rounds in one way
// (this file is compiled without fused products), and from the square root, which it rounds in one way too.
// Their errors lie near 1e-16; the result is then rounded to a float.
#include <array>
#include <bit>
#include <cmath>
#include <numbers>

#include "muster/core/philox.h"
#include "muster/diffusion/text_to_image.h"

namespace muster::diffusion {
namespace {

/// Third word of the counter: apart from the streams that other parts of the program draw from a seed.
constexpr std::uint32_t kDomain = 0x6e6f6973;

/// sum of coefficients[i] * x^i
template <std::size_t N>
double polynomial(const std::array<double, N>& coefficients, double x) {
  double sum = 0;
  for (std::size_t i = N; i-- > 0;) sum = sum * x + coefficients[i];
  return sum;
}

/// Natural logarithm of a normal number in (0, 1).
double logarithm(double x) {
  constexpr std::array<double, 12> kOdd{1.0,      1.0 / 3,  1.0 / 5,  1.0 / 7,  1.0 / 9,  1.0 / 11,
                                        1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21, 1.0 / 23};
  const auto bits = std::bit_cast<std::uint64_t>(x);
  auto exponent = static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0xfffffffffffff) | 0x3ff0000000000000);  // [1, 2)
  if (m > std::numbers::sqrt2) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1) / (m + 1);  // log m = 2 artanh s, |s| < 0.172
  return exponent * std::numbers::ln2 + 2 * s * polynomial(kOdd, s * s);
}

struct Direction {
  double cosine, sine;
};

/// Of `turn` / 2^32 of a full turn.
Direction direction(std::uint32_t turn) {
  constexpr std::array<double, 9> kSine{1.0,
                                        -1.0 / 6,
                                        1.0 / 120,
                                        -1.0 / 5040,
                                        1.0 / 362880,
                                        -1.0 / 39916800,
                                        1.0 / 6227020800,
                                        -1.0 / 1307674368000,
                                        1.0 / 355687428096000};
  constexpr std::array<double, 10> kCosine{1.0,
                                           -1.0 / 2,
                                           1.0 / 24,
                                           -1.0 / 720,
                                           1.0 / 40320,
                                           -1.0 / 3628800,
                                           1.0 / 479001600,
                                           -1.0 / 87178291200,
                                           1.0 / 20922789888000,
                                           -1.0 / 6402373705728000};
  // The nearest quarter, exactly, and the angle from there: within an eighth of a turn.
  const std::uint32_t quarter = (turn + (1U << 29)) >> 30;
  const auto rest = static_cast<std::int32_t>(turn - (quarter << 30));
  const double angle = rest * 0x1p-31 * std::numbers::pi;
  const double square = angle * angle;
  const double sine = angle * polynomial(kSine, square), cosine = polynomial(kCosine, square);
  switch (quarter & 3) {
    case 0:
      return {cosine, sine};
    case 1:
      return {-sine, cosine};
    case 2:
      return {-cosine, -sine};
    default:
      return {sine, -cosine};
  }
}

}  // namespace

void fill_noise(std::uint64_t seed, std::uint32_t stream, std::span<float> out) {
  const std::array<std::uint32_t, 2> key{static_cast<std::uint32_t>(seed),
                                         static_cast<std::uint32_t>(seed >> 32)};
  for (std::size_t begin = 0; begin < out.size(); begin += 4) {
    const std::uint64_t block = begin / 4;
    const auto bits = core::philox4x32(
        {static_cast<std::uint32_t>(block), stream, kDomain, static_cast<std::uint32_t>(block >> 32)}, key);
    std::array<float, 4> normal{};
    for (std::size_t pair = 0; pair < 4; pair += 2) {  // Box and Muller, 1958
      const double uniform = (bits[pair] + 0.5) * 0x1p-32;
      const double radius = std::sqrt(-2 * logarithm(uniform));
      const Direction to = direction(bits[pair + 1]);
      normal[pair] = static_cast<float>(radius * to.cosine);
      normal[pair + 1] = static_cast<float>(radius * to.sine);
    }
    for (std::size_t i = 0; i < 4 && begin + i < out.size(); ++i) out[begin + i] = normal[i];
  }
}

}  // namespace muster::diffusion
