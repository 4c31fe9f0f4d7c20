// SPDX-License-Identifier: Apache-2.0
// The memory of a rank does not grow with the input: windows pass through it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "system.h"

namespace muster::test {
namespace {

/// The largest peak_memory of any rank in metrics.jsonl, bytes.
double peak_of(const Scratch& scratch) {
  const std::string metrics = read_text(scratch / "out/metrics.jsonl");
  const std::string name = "\"name\":\"peak_memory\",\"value\":";
  double peak = 0;
  for (auto at = metrics.find(name); at != std::string::npos; at = metrics.find(name, at + 1)) {
    peak = std::max(peak, std::strtod(metrics.c_str() + at + name.size(), nullptr));
  }
  return peak;
}

double peak_with(int items) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", toy_lines(items));
  const auto outcome = run(mpirun(2) + encode(scratch, {"--set", "run.window_items=32768"}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(read_embeddings(scratch / "out").ids.size(), static_cast<std::size_t>(items));
  fmt::print("{} documents in {:.1f} s\n", items, outcome.seconds);
  return peak_of(scratch);
}

TEST(Memory, FourTimesTheDocumentsTakeNoMore) {
  if (!long_form()) GTEST_SKIP() << "MUSTER_LONG=1 runs it";
  const double small = peak_with(150'000), large = peak_with(600'000);
  fmt::print("peak of a rank: {:.1f} MB for 150,000 documents, {:.1f} MB for 600,000 ({:+.1f} %)\n",
             small / 1e6, large / 1e6, 100 * (large / small - 1));
  ASSERT_GT(small, 0);
  EXPECT_LE(large, 1.1 * small);
}

}  // namespace
}  // namespace muster::test
