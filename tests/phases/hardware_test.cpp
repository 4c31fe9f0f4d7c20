// SPDX-License-Identifier: Apache-2.0
// A machine without AVX-512, played by the limits that LibTorch and oneDNN take from the environment.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "muster/device/device.h"
#include "muster/nn/linear.h"
#include "system.h"

namespace muster::test {
namespace {

const Environment kOnlyAvx2{{"ATEN_CPU_CAPABILITY", "avx2"}, {"ONEDNN_MAX_CPU_ISA", "AVX2"}};

Embeddings embed_sample(const std::string& dtype, const Environment& environment) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(40)));
  const auto outcome = run(encode(scratch, {"--dtype", dtype}), environment);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  return read_embeddings(scratch / "out");
}

double largest_difference(const Embeddings& a, const Embeddings& b) {
  EXPECT_EQ(a.ids, b.ids);
  double largest = 0;
  for (std::size_t i = 0; i < a.vectors.size(); ++i)
    largest = std::max(largest, std::abs(double{a.vectors[i]} - b.vectors[i]));
  return largest;
}

TEST(EncodeHardware, WithoutBf16InHardwareAutoIsFp32) {
  const auto fp32 = embed_sample("fp32", {});
  EXPECT_LE(largest_difference(embed_sample("auto", kOnlyAvx2), fp32), 2e-5);
  if (!device::cpu_has_bf16()) return;
  EXPECT_GT(largest_difference(embed_sample("auto", {}), fp32), 1e-4) << "bf16 was not chosen";
}

TEST(EncodeHardware, Int8IsNearFp32) {
  if (!nn::has_int8_linear()) GTEST_SKIP() << "this processor has no AVX512-VNNI and AVX512-BF16";
  const double difference = largest_difference(embed_sample("int8", {}), embed_sample("fp32", {}));
  EXPECT_LE(difference, 0.05);
  EXPECT_GT(difference, largest_difference(embed_sample("bf16", {}), embed_sample("fp32", {})))
      << "int8 was not used";
}

TEST(EncodeHardware, Int8IsRefusedWhereItIsNot) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", as_tsv(sample(3)));
  const auto outcome = run(encode(scratch, {"--dtype", "int8"}), kOnlyAvx2);
  EXPECT_EQ(outcome.exit_code, 2) << outcome.output;
  EXPECT_TRUE(outcome.contains("run.dtype is int8, but this processor has no AVX512-VNNI")) << outcome.output;
}

}  // namespace
}  // namespace muster::test
