// SPDX-License-Identifier: Apache-2.0
// Against sentence-transformers in fp32; generate_fixtures.py made the expectations.
#include <gtest/gtest.h>

#include <iostream>

#include "models/fixture.h"
#include "models/sentence_folder.h"
#include "models/token_batch.h"
#include "models/weights.h"
#include "muster/nn/backend.h"
#include "muster/nn/linear.h"

namespace muster::models {
namespace {

constexpr double kTolerance = 2e-5;

std::string name_of(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

class ParityFixture : public testing::TestWithParam<std::string> {
 protected:
  std::string folder() const { return (fixture_root() / GetParam()).string(); }
  Expected expected() const { return read_expected(fixture_root() / GetParam() / "expected.safetensors"); }
};

TEST_P(ParityFixture, Fp32) {
  const Expected expected = this->expected();
  const auto encoder = load_text_encoder({folder(), {}, ComputeType::kFp32, {}});
  ASSERT_EQ(encoder->description().dimensions, expected.dimensions);
  const double difference = largest_difference(embed(*encoder, expected.packed()), expected.embeddings);
  EXPECT_LE(difference, kTolerance) << "see the Layers test of this model for the first wrong layer";
  RecordProperty("largest_difference", std::to_string(difference));
}

// Random weights spread further than trained ones, so the bound here is looser than on real models.
TEST_P(ParityFixture, Bf16) {
  const Expected expected = this->expected();
  const auto encoder = load_text_encoder({folder(), {}, ComputeType::kBf16, {}});
  EXPECT_GE(smallest_cosine(embed(*encoder, expected.packed()), expected.embeddings, expected.dimensions),
            0.998);
}

TEST_P(ParityFixture, Layers) {
  const Expected expected = this->expected();
  const SentenceFolder sentence = read_sentence_folder(folder(), {});
  Transformer& transformer = *sentence.transformer;
  const auto checkpoint = open_checkpoint(folder());
  load_weights(transformer, checkpoint, transformer.facts().weights, folder());
  transformer.prepare({});
  nn::use_one_thread();

  const auto ids = expected.text(kTracedText);
  const auto length = static_cast<std::uint32_t>(ids.size());
  TokenBatch batch = make_token_batch({ids, {&length, 1}}, transformer.facts().positions, {});
  std::size_t compared = 0;
  bool wrong = false;
  batch.observe = [&](const std::string& name, const at::Tensor& value) {
    if (wrong || !expected.states.contains(name)) return;
    const auto& reference = expected.states.at(name);
    const double difference =
        largest_difference({value.const_data_ptr<float>(), reference.size()}, reference);
    wrong = difference > kTolerance;
    EXPECT_FALSE(wrong) << "first wrong: " << name << ", by " << difference;
    ++compared;
  };
  transformer.forward(batch);
  EXPECT_EQ(compared, wrong ? compared : static_cast<std::size_t>(transformer.facts().layers) + 1);
}

INSTANTIATE_TEST_SUITE_P(Models, ParityFixture, testing::ValuesIn(fixture_names()), name_of);

// An architecture without a fixture is not done.
TEST(Parity, EveryArchitectureHasAFixture) {
  std::vector<std::string> missing = registered_text_encoders();
  for (const std::string& name : fixture_names())
    std::erase(missing, describe_text_encoder((fixture_root() / name).string()).architecture);
  EXPECT_TRUE(missing.empty()) << "no fixture for " << missing.front();
}

class ParityReal : public testing::TestWithParam<std::string> {};

TEST_P(ParityReal, Fp32AndBf16) {
  const std::string folder = real_model_folder(GetParam());
  if (folder.empty())
    GTEST_SKIP() << GetParam()
                 << " is neither in $MUSTER_MODELS_DIR nor in models/; scripts/fetch_models.sh fetches it";
  const Expected expected = read_expected(fixture_root() / "real" / (GetParam() + ".safetensors"));
  const auto fp32 = load_text_encoder({folder, {}, ComputeType::kFp32, {}});
  const double difference = largest_difference(embed(*fp32, expected.packed()), expected.embeddings);
  EXPECT_LE(difference, kTolerance);
  const auto bf16 = load_text_encoder({folder, {}, ComputeType::kBf16, {}});
  const double cosine =
      smallest_cosine(embed(*bf16, expected.packed()), expected.embeddings, expected.dimensions);
  EXPECT_GE(cosine, 0.999);
  std::cout << GetParam() << ": fp32 differs by " << difference << " at most, bf16 cosine " << cosine
            << " at least\n";
}

TEST_P(ParityReal, Int8) {
  const std::string folder = real_model_folder(GetParam());
  if (folder.empty()) GTEST_SKIP() << GetParam() << " is not there, see above";
  if (!nn::has_int8_linear()) GTEST_SKIP() << "this processor has no int8 product of ours";
  const Expected expected = read_expected(fixture_root() / "real" / (GetParam() + ".safetensors"));
  const auto int8 = load_text_encoder({folder, {}, ComputeType::kInt8, {}});
  const double cosine =
      smallest_cosine(embed(*int8, expected.packed()), expected.embeddings, expected.dimensions);
  EXPECT_GE(cosine, 0.99);
  EXPECT_LT(cosine, 0.99999) << "int8 was not used";
  std::cout << GetParam() << ": int8 cosine " << cosine << " at least\n";
}

INSTANTIATE_TEST_SUITE_P(Models, ParityReal, testing::Values("all-MiniLM-L6-v2", "all-mpnet-base-v2"),
                         name_of);

}  // namespace
}  // namespace muster::models
