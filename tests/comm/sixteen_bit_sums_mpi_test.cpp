// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "muster/core/half.h"
#include "support/mpi_test.h"

namespace muster::comm {
namespace {

struct Case {
  const char* name;
  DType dtype;
  float (*to_float)(std::uint16_t);
  std::uint16_t (*from_float)(float);
  float
      unit;  ///< the spacing of the type's values at 1: half of it is lost when added to 1 in the type itself
};

class SixteenBitSums : public testing::TestWithParam<Case> {
 protected:
  std::vector<std::uint16_t> sum(std::vector<std::uint16_t> values, Accumulate accumulate,
                                 std::size_t limit = 1000, Op op = Op::kSum) {
    Communicator world = make_mpi_communicator({limit});
    world.all_reduce(Buffer(values.data(), values.size(), GetParam().dtype, Memory::kHost), op, accumulate);
    return values;
  }
  static int rank() { return test::session().place().rank; }
  static int size() { return test::session().place().size; }
};

INSTANTIATE_TEST_SUITE_P(Both, SixteenBitSums,
                         testing::Values(Case{"bf16", DType::kBF16, core::bfloat16_to_float, core::float_to_bfloat16, 0x1p-7f},
                                         Case{"fp16", DType::kF16, core::half_to_float, core::float_to_half, 0x1p-10f}),
                         [](const auto& test) { return test.param.name; });

TEST_P(SixteenBitSums, AreTheRoundedExactSum) {
  const auto& c = GetParam();
  std::vector<std::uint16_t> mine(3000);
  std::vector<float> exact(mine.size());
  for (std::size_t i = 0; i < mine.size(); ++i) {
    for (int r = 0; r < size(); ++r) {
      const std::uint16_t value =
          c.from_float(static_cast<float>((i * 37 + static_cast<std::size_t>(r) * 101) % 97) / 64 - 0.7f);
      exact[i] += c.to_float(value);  // 16-bit values of like size: the fp32 sum of a few is exact
      if (r == rank()) mine[i] = value;
    }
  }
  const auto summed = sum(mine, Accumulate::kFloat32);
  for (std::size_t i = 0; i < mine.size(); ++i) ASSERT_EQ(summed[i], c.from_float(exact[i])) << i;
}

TEST_P(SixteenBitSums, WideningKeepsWhatTheTypeItselfLoses) {
  if (size() < 4) GTEST_SKIP() << "needs four ranks";
  const auto& c = GetParam();
  // 1 + u/2 + u/2 + u/2 (u: the spacing at 1) is 1 + 1.5 u, which rounds to 1 + 2u. In the type itself the
  // halves that meet the 1 are lost, and whatever the order the result is another.
  const float mine = rank() == 0 ? 1.0f : c.unit / 2;
  const std::vector<std::uint16_t> input(500, c.from_float(mine));
  EXPECT_EQ(c.to_float(sum(input, Accumulate::kFloat32)[0]), 1.0f + 2 * c.unit);
  EXPECT_NE(c.to_float(sum(input, Accumulate::kNative)[0]), 1.0f + 2 * c.unit);
}

TEST_P(SixteenBitSums, AreTheSameBitsOnAllRanksAndInAllRuns) {
  const auto& c = GetParam();
  std::vector<std::uint16_t> mine(4096);
  for (std::size_t i = 0; i < mine.size(); ++i) {
    mine[i] = c.from_float(std::sin(static_cast<float>(i) * 0.37f + static_cast<float>(rank())) *
                           std::exp2(static_cast<float>(i % 13)));
  }
  for (const auto accumulate : {Accumulate::kFloat32, Accumulate::kNative}) {
    const auto first = sum(mine, accumulate), again = sum(mine, accumulate);
    EXPECT_EQ(first, again);
    std::vector<std::uint8_t> bytes(first.size() * 2);
    std::memcpy(bytes.data(), first.data(), bytes.size());
    test::session().world().broadcast(Buffer(bytes), 0);
    EXPECT_EQ(std::memcmp(bytes.data(), first.data(), bytes.size()), 0);
  }
}

TEST_P(SixteenBitSums, MinimumAndMaximumAreExact) {
  const auto& c = GetParam();
  const std::vector<std::uint16_t> input(100, c.from_float(static_cast<float>(rank()) - 1.5f));
  EXPECT_EQ(c.to_float(sum(input, Accumulate::kFloat32, 1000, Op::kMin)[99]), -1.5f);
  EXPECT_EQ(c.to_float(sum(input, Accumulate::kNative, 1000, Op::kMax)[99]),
            static_cast<float>(size()) - 2.5f);
}

}  // namespace
}  // namespace muster::comm
