// SPDX-License-Identifier: Apache-2.0
#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "models/batch_pooling.h"
#include "muster/core/error.h"
#include "muster/core/philox.h"

namespace muster::models {
namespace {

// Three tokens of two values.
const std::vector<float> kStates{1, -4, 2, 6, 6, 1};
constexpr float kLowest = -std::numeric_limits<float>::infinity();

struct Row {
  Pooling mode;
  std::size_t prompt_tokens;
  std::vector<float> expected;
};

TEST(Pooling, Modes) {
  const float root3 = std::sqrt(3.0f), root2 = std::sqrt(2.0f);
  const Row rows[] = {
      {Pooling::kCls, 0, {1, -4}},
      {Pooling::kCls, 1, {2, 6}},
      {Pooling::kCls, 3, {1, -4}},
      {Pooling::kMean, 0, {3, 1}},
      {Pooling::kMean, 1, {4, 3.5}},
      {Pooling::kMean, 3, {0, 0}},
      {Pooling::kMean, 9, {0, 0}},
      {Pooling::kMax, 0, {6, 6}},
      {Pooling::kMax, 2, {6, 1}},
      {Pooling::kMax, 3, {kLowest, kLowest}},
      {Pooling::kMeanSqrtLen, 0, {9 / root3, 3 / root3}},
      {Pooling::kMeanSqrtLen, 1, {8 / root2, 7 / root2}},
      {Pooling::kWeightedMean, 0, {23.0f / 6, 11.0f / 6}},
      {Pooling::kWeightedMean, 1, {22.0f / 5, 15.0f / 5}},
      {Pooling::kLastToken, 0, {6, 1}},
      {Pooling::kLastToken, 2, {6, 1}},
      {Pooling::kLastToken, 3, {0, 0}},
  };
  for (const Row& row : rows) {
    std::vector<float> out(2);
    pool(kStates, 2, row.prompt_tokens, {&row.mode, 1}, out);
    EXPECT_EQ(out, row.expected) << pooling_name(row.mode) << ", " << row.prompt_tokens << " prompt tokens";
  }
}

TEST(Pooling, SeveralModesAreConcatenatedInOrder) {
  const std::vector<Pooling> modes{Pooling::kMax, Pooling::kCls};
  std::vector<float> out(4);
  pool(kStates, 2, 0, modes, out);
  EXPECT_EQ(out, (std::vector<float>{6, 6, 1, -4}));
}

TEST(Pooling, ANanIsNotHiddenByMax) {
  const std::vector<float> states{1, NAN, 2};
  const Pooling mode = Pooling::kMax;
  std::vector<float> out(1);
  pool(std::span(states).first(2), 1, 0, {&mode, 1}, out);
  EXPECT_TRUE(std::isnan(out[0]));
  pool(states, 1, 0, {&mode, 1}, out);
  EXPECT_TRUE(std::isnan(out[0]));
}

constexpr Pooling kAllModes[] = {Pooling::kCls,         Pooling::kMean,         Pooling::kMax,
                                 Pooling::kMeanSqrtLen, Pooling::kWeightedMean, Pooling::kLastToken};

bool same_bytes(const float* a, const std::vector<float>& b) {
  return std::memcmp(a, b.data(), b.size() * sizeof(float)) == 0;
}

// What GPUs compute, on the CPU: the same bytes as pool(), text by text.
TEST(BatchPooling, IsPoolForEveryTextModeAndPrompt) {
  constexpr std::size_t kHidden = 37, kRowsBehind = 5;
  const std::vector<std::uint32_t> lengths{7, 1, 1, 300, 2, 64, 3, 3};
  std::size_t tokens = 0;
  for (const auto length : lengths) tokens += length;
  std::vector<float> states((tokens + kRowsBehind) * kHidden);
  core::Philox random(3, 0);
  for (float& value : states) value = random.next_uniform() * 9 - 4;
  const at::Tensor tensor = at::from_blob(
      states.data(), {static_cast<std::int64_t>(tokens + kRowsBehind), static_cast<std::int64_t>(kHidden)},
      c10::ScalarType::Float);

  for (const std::uint32_t prompt_tokens : {0u, 1u, 2u, 9u}) {
    const at::Tensor pooled = pool_batch(tensor, {lengths, prompt_tokens}, kAllModes).contiguous();
    ASSERT_EQ(pooled.size(0), static_cast<std::int64_t>(lengths.size()));
    const float* row = states.data();
    const float* out = pooled.const_data_ptr<float>();
    for (std::size_t text = 0; text < lengths.size(); ++text) {
      for (const Pooling mode : kAllModes) {
        std::vector<float> expected(kHidden);
        pool({row, lengths[text] * kHidden}, kHidden, prompt_tokens, {&mode, 1}, expected);
        EXPECT_TRUE(same_bytes(out, expected))
            << pooling_name(mode) << " of text " << text << " without " << prompt_tokens << " tokens";
        out += kHidden;
      }
      row += lengths[text] * kHidden;
    }
  }
}

TEST(BatchPooling, WidensSixteenBitStatesAndKeepsNaN) {
  const std::vector<std::uint32_t> lengths{300, 2};
  at::Tensor states = at::full({302, 1}, 1.0f, c10::ScalarType::BFloat16);  // their sum is no bf16 number
  states[300][0] = NAN;
  const Pooling modes[] = {Pooling::kMeanSqrtLen, Pooling::kMax};
  const at::Tensor pooled = pool_batch(states, {lengths, 0}, modes).contiguous();
  const float* out = pooled.const_data_ptr<float>();
  EXPECT_EQ(out[0], 300 / std::sqrt(300.0f));
  EXPECT_EQ(out[1], 1);
  EXPECT_TRUE(std::isnan(out[2]));
  EXPECT_TRUE(std::isnan(out[3]));
}

TEST(Pooling, Configs) {
  using Modes = std::vector<Pooling>;
  const std::pair<const char*, Modes> good[] = {
      {R"({})", {Pooling::kMean}},
      {R"({"pooling_mode": "cls"})", {Pooling::kCls}},
      {R"({"pooling_mode": ["lasttoken", "max"], "embedding_dimension": 8})",
       {Pooling::kLastToken, Pooling::kMax}},
      {R"({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true, "pooling_mode_max_tokens": false})",
       {Pooling::kCls, Pooling::kMean}},
      {R"({"pooling_mode": "max", "pooling_mode_mean_tokens": true})", {Pooling::kMax}},
  };
  for (const auto& [text, modes] : good)
    EXPECT_EQ(PoolingConfig::read(formats::parse_json(text, "c.json"), 8).modes, modes) << text;
  EXPECT_FALSE(
      PoolingConfig::read(formats::parse_json(R"({"include_prompt": false})", "c.json"), 8).include_prompt);

  const std::pair<const char*, const char*> bad[] = {
      {R"({"pooling_mode": "median"})", "c.json: key 'pooling_mode' is 'median'; known: cls, max"},
      {R"({"pooling_mode": []})", "lists no mode"},
      {R"({"pooling_mode": 3})", "is an integer, not"},
      {R"({"word_embedding_dimension": 9})",
       "key 'word_embedding_dimension' is 9, but the transformer's hidden states have 8"},
  };
  for (const auto& [text, part] : bad) {
    try {
      PoolingConfig::read(formats::parse_json(text, "c.json"), 8);
      ADD_FAILURE() << text << " was accepted";
    } catch (const core::DataError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
}

TEST(Pooling, Names) {
  for (const char* name : {"cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"})
    EXPECT_EQ(pooling_name(pooling_from_name(name)), name);
  EXPECT_THROW(pooling_from_name("median"), core::ConfigError);
}

}  // namespace
}  // namespace muster::models
