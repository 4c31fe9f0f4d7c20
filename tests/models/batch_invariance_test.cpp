// SPDX-License-Identifier: Apache-2.0
// A text's embedding has the same bytes alone, in any batch, at any place, in any thread.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <thread>
#include <tuple>

#include "models/fixture.h"
#include "muster/core/philox.h"
#include "muster/nn/linear.h"

namespace muster::models {
namespace {

using Texts = std::vector<std::vector<std::uint32_t>>;
using Case = std::tuple<std::string, ComputeType>;

Texts random_texts(const EncoderDescription& model, std::size_t count) {
  core::Philox random(7, 0);
  Texts texts(count);
  for (auto& text : texts) {
    // Few lengths, so that many texts share one, and every length up to 9.
    const auto longest = random.next_below(3) ? std::min(9u, model.max_length) : model.max_length;
    text.resize(1 + random.next_below(longest));
    for (auto& id : text) id = static_cast<std::uint32_t>(random.next_below(model.vocab));
  }
  return texts;
}

/// Texts that differ from `order`'s are missing in the result.
std::vector<std::vector<float>> embed_in_order(const TextEncoder& encoder, const Texts& texts,
                                               const std::vector<std::size_t>& order) {
  std::vector<std::uint32_t> ids, lengths;
  for (const std::size_t i : order) {
    ids.insert(ids.end(), texts[i].begin(), texts[i].end());
    lengths.push_back(static_cast<std::uint32_t>(texts[i].size()));
  }
  const auto flat = embed(encoder, {ids, lengths});
  const std::size_t width = encoder.description().dimensions;
  std::vector<std::vector<float>> out(texts.size());
  for (std::size_t k = 0; k < order.size(); ++k)
    out[order[k]].assign(flat.begin() + k * width, flat.begin() + (k + 1) * width);
  return out;
}

std::size_t different(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    count +=
        a[i].size() != b[i].size() || std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float)) != 0;
  return count;
}

struct Orders {
  std::vector<std::size_t> given, reversed, shuffled, sorted;

  explicit Orders(const Texts& texts) : given(texts.size()) {
    std::iota(given.begin(), given.end(), 0);
    reversed.assign(given.rbegin(), given.rend());
    shuffled = sorted = given;
    core::Philox random(11, 0);
    for (std::size_t i = shuffled.size(); i > 1; --i)
      std::swap(shuffled[i - 1], shuffled[random.next_below(i)]);
    std::stable_sort(sorted.begin(), sorted.end(),
                     [&](auto a, auto b) { return texts[a].size() < texts[b].size(); });
  }
};

void expect_invariant(const TextEncoder& encoder, std::size_t count) {
  const Texts texts = random_texts(encoder.description(), count);
  std::vector<std::vector<float>> alone;
  for (const auto& text : texts) alone.push_back(embed_alone(encoder, text));
  const Orders orders(texts);
  EXPECT_EQ(different(alone, embed_in_order(encoder, texts, orders.given)), 0u) << "in one batch";
  EXPECT_EQ(different(alone, embed_in_order(encoder, texts, orders.reversed)), 0u) << "in reverse";
  EXPECT_EQ(different(alone, embed_in_order(encoder, texts, orders.shuffled)), 0u) << "shuffled";
  EXPECT_EQ(different(alone, embed_in_order(encoder, texts, orders.sorted)), 0u)
      << "sorted, equal lengths attended together";

  std::vector<std::vector<float>> first, second;  // two workers on one model at once
  std::thread worker([&] { first = embed_in_order(encoder, texts, orders.shuffled); });
  second = embed_in_order(encoder, texts, orders.sorted);
  worker.join();
  EXPECT_EQ(different(alone, first), 0u) << "in a thread beside another";
  EXPECT_EQ(different(alone, second), 0u) << "beside another thread";
}

// int8 where this processor has it.
std::vector<ComputeType> compute_types() {
  std::vector<ComputeType> types{ComputeType::kFp32, ComputeType::kBf16};
  if (nn::has_int8_linear()) types.push_back(ComputeType::kInt8);
  return types;
}

class BatchInvariance : public testing::TestWithParam<Case> {};

std::string case_name(const testing::TestParamInfo<Case>& info) {
  std::string name = std::get<0>(info.param) + "_" + compute_type_name(std::get<1>(info.param));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

TEST_P(BatchInvariance, SameBytesInAnyCompany) {
  const auto& [name, type] = GetParam();
  expect_invariant(*load_text_encoder({(fixture_root() / name).string(), {}, type, {}}), 60);
}

INSTANTIATE_TEST_SUITE_P(Models, BatchInvariance,
                         testing::Combine(testing::ValuesIn(fixture_names()),
                                          testing::ValuesIn(compute_types())),
                         case_name);

class BatchInvarianceReal : public testing::TestWithParam<Case> {};

TEST_P(BatchInvarianceReal, SameBytesInAnyCompany) {
  const auto& [name, type] = GetParam();
  const std::string folder = real_model_folder(name);
  if (folder.empty()) GTEST_SKIP() << name << " is neither in $MUSTER_MODELS_DIR nor in models/";
  expect_invariant(*load_text_encoder({folder, {}, type, {}}), 8);
}

INSTANTIATE_TEST_SUITE_P(Models, BatchInvarianceReal,
                         testing::Combine(testing::Values("all-MiniLM-L6-v2", "all-mpnet-base-v2"),
                                          testing::ValuesIn(compute_types())),
                         case_name);

}  // namespace
}  // namespace muster::models
