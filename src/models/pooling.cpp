// SPDX-License-Identifier: Apache-2.0
#include "models/pooling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "muster/core/error.h"

namespace muster::models {
namespace {

struct PoolingName {
  Pooling mode;
  const char* name;        // in "pooling_mode"
  const char* legacy_key;  // a boolean of its own, in the order in which sentence-transformers concatenates
};
constexpr PoolingName kNames[] = {
    {Pooling::kCls, "cls", "pooling_mode_cls_token"},
    {Pooling::kMax, "max", "pooling_mode_max_tokens"},
    {Pooling::kMean, "mean", "pooling_mode_mean_tokens"},
    {Pooling::kMeanSqrtLen, "mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"},
    {Pooling::kWeightedMean, "weightedmean", "pooling_mode_weightedmean_tokens"},
    {Pooling::kLastToken, "lasttoken", "pooling_mode_lasttoken"},
};

Pooling mode_from(const formats::JsonValue& json) {
  for (const auto& [mode, name, key] : kNames)
    if (json.view() == name) return mode;
  json.fail(fmt::format("is '{}'; known: cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken",
                        json.view()));
}

std::vector<Pooling> read_modes(const formats::JsonValue& json) {
  std::vector<Pooling> modes;
  if (const auto mode = json.find("pooling_mode"); mode && mode->is_string()) {
    modes.push_back(mode_from(*mode));
  } else if (mode && !mode->is_null()) {
    for (const auto& element : mode->elements()) modes.push_back(mode_from(element));
    if (modes.empty()) mode->fail("lists no mode");
  } else {
    for (const auto& name : kNames)
      if (json.get_or<bool>(name.legacy_key, false)) modes.push_back(name.mode);
  }
  if (modes.empty()) modes.push_back(Pooling::kMean);
  return modes;
}

/// Hidden states of the tokens that count, one row a token.
struct States {
  const float* first;
  std::size_t tokens, hidden, skipped;

  std::size_t counted() const { return tokens - skipped; }
  const float* row(std::size_t token) const { return first + token * hidden; }
};

void add_scaled(const float* x, float scale, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] += x[i] * scale;
}

void divide(std::span<float> out, float by) {
  for (float& value : out) value /= by;
}

void pool_sum(const States& states, std::span<float> out) {
  std::fill(out.begin(), out.end(), 0.0f);
  for (std::size_t t = states.skipped; t < states.tokens; ++t) add_scaled(states.row(t), 1.0f, out);
}

void pool_weighted_mean(const States& states, std::span<float> out) {
  std::fill(out.begin(), out.end(), 0.0f);
  float total = 0.0f;
  for (std::size_t t = states.skipped; t < states.tokens; ++t) {
    const auto weight = static_cast<float>(t + 1);  // by place in the whole text, prompt included
    add_scaled(states.row(t), weight, out);
    total += weight;
  }
  divide(out, std::max(total, kSmallestWeight));
}

void pool_max(const States& states, std::span<float> out) {
  std::fill(out.begin(), out.end(), -std::numeric_limits<float>::infinity());
  for (std::size_t t = states.skipped; t < states.tokens; ++t) {
    const float* x = states.row(t);
    // A NaN stays one, so that it is seen at the end.
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = x[i] > out[i] || std::isnan(x[i]) ? x[i] : out[i];
  }
}

void pool_one(const States& states, Pooling mode, std::span<float> out) {
  const auto counted = static_cast<float>(states.counted());
  switch (mode) {
    case Pooling::kCls: {
      const float* x = states.row(states.counted() ? states.skipped : 0);
      std::copy_n(x, out.size(), out.begin());
      return;
    }
    case Pooling::kLastToken:
      std::copy_n(states.row(states.tokens - 1), out.size(), out.begin());
      if (!states.counted()) std::fill(out.begin(), out.end(), 0.0f);
      return;
    case Pooling::kMax:
      return pool_max(states, out);
    case Pooling::kMean:
      pool_sum(states, out);
      return divide(out, std::max(counted, kSmallestWeight));
    case Pooling::kMeanSqrtLen:
      pool_sum(states, out);
      return divide(out, std::sqrt(std::max(counted, kSmallestWeight)));
    case Pooling::kWeightedMean:
      return pool_weighted_mean(states, out);
  }
  throw core::InternalError("unknown pooling");
}

}  // namespace

Pooling pooling_from_name(const std::string& name) {
  for (const auto& known : kNames)
    if (name == known.name) return known.mode;
  throw core::ConfigError(fmt::format(
      "pooling '{}' is not known; known: cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken",
      name));
}

std::string pooling_name(Pooling pooling) {
  for (const auto& known : kNames)
    if (pooling == known.mode) return known.name;
  throw core::InternalError("unknown pooling");
}

PoolingConfig PoolingConfig::read(const formats::JsonValue& json, std::int64_t hidden) {
  for (const char* key : {"embedding_dimension", "word_embedding_dimension"}) {
    const auto dimension = json.find(key);
    if (dimension && !dimension->is_null() && dimension->as<std::int64_t>() != hidden)
      dimension->fail(fmt::format("is {}, but the transformer's hidden states have {}",
                                  dimension->as<std::int64_t>(), hidden));
  }
  return {.modes = read_modes(json), .include_prompt = json.get_or<bool>("include_prompt", true)};
}

void pool(std::span<const float> states, std::size_t hidden, std::size_t prompt_tokens,
          std::span<const Pooling> modes, std::span<float> out) {
  const std::size_t tokens = states.size() / hidden;
  core::internal_check(tokens > 0 && states.size() == tokens * hidden && out.size() == modes.size() * hidden,
                       "pooling takes whole rows of one text");
  const States all{states.data(), tokens, hidden, std::min(prompt_tokens, tokens)};
  for (std::size_t i = 0; i < modes.size(); ++i) pool_one(all, modes[i], out.subspan(i * hidden, hidden));
}

}  // namespace muster::models
