// SPDX-License-Identifier: Apache-2.0
// From text to embeddings.h5 against sentence-transformers in float32 (generate_fixtures.py): tokenizer,
// model, pooling, normalization and the file, all at once.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "muster/formats/safetensors.h"
#include "system.h"

namespace muster::test {
namespace {

// Float32 sums in another order; see the worst difference that each test prints.
constexpr double kTolerance = 2e-5;
// Eight bits of mantissa over two layers of random weights; the angle is what users of bf16 rely on.
constexpr double kLeastCosineBf16 = 0.998;

template <class T>
std::vector<T> expected(const char* name) {
  const auto file = formats::Safetensors::open(source_file("tests/phases/fixtures/expected.safetensors"));
  const auto view = file.find(name).value();
  std::vector<T> values(view.bytes.size() / sizeof(T));
  std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
  return values;
}

Embeddings embeddings_of_fixture(int ranks, const std::string& dtype) {
  const Scratch scratch;
  const auto outcome =
      run(mpirun(ranks) +
          encode(scratch, {"-i", source_file("tests/phases/fixtures/texts.jsonl"), "--dtype", dtype}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  return read_embeddings(scratch / "out");
}

TEST(EncodeParity, Float32EqualsSentenceTransformers) {
  const auto result = embeddings_of_fixture(2, "fp32");
  const auto vectors = expected<float>("embeddings");
  ASSERT_EQ(result.vectors.size(), vectors.size());
  double worst = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < vectors.size(); ++i) {
    const double difference = std::abs(static_cast<double>(result.vectors[i]) - vectors[i]);
    if (!(difference <= worst)) {
      worst = difference;
      at = i;
    }
  }
  fmt::print("largest difference {:.3g} over {} texts\n", worst, result.ids.size());
  EXPECT_LE(worst, kTolerance) << "text " << result.ids[at / result.dimensions];
}

TEST(EncodeParity, TokensAndTruncationEqualTheReference) {
  const auto result = embeddings_of_fixture(1, "fp32");
  EXPECT_EQ(result.n_tokens, expected<std::int32_t>("n_tokens"));
  EXPECT_EQ(result.truncated, expected<std::uint8_t>("truncated"));
}

TEST(EncodeParity, Bfloat16PointsTheSameWay) {
  const auto result = embeddings_of_fixture(1, "bf16");
  const auto vectors = expected<float>("embeddings");
  ASSERT_EQ(result.vectors.size(), vectors.size());
  double least = 1;
  for (std::size_t row = 0; row < result.ids.size(); ++row) {
    double dot = 0, norm = 0;
    for (std::size_t d = 0; d < result.dimensions; ++d) {
      const double value = result.vectors[row * result.dimensions + d];
      dot += value * vectors[row * result.dimensions + d];
      norm += value * value;
    }
    least = std::min(least, dot / std::sqrt(norm));
  }
  fmt::print("least cosine {:.6f}\n", least);
  EXPECT_GE(least, kLeastCosineBf16);
}

}  // namespace
}  // namespace muster::test
