// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "models/pooling.h"
#include "muster/core/error.h"

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
