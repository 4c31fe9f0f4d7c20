// SPDX-License-Identifier: Apache-2.0
#include "models/batch_pooling.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "muster/core/error.h"

namespace muster::models {
namespace {

/// Where a text lies, and what of it counts.
struct Place {
  std::int64_t first_row, tokens, skipped;

  std::int64_t counted() const { return tokens - skipped; }
};

std::vector<Place> places_of(const TextRows& texts) {
  std::vector<Place> places;
  std::int64_t row = 0;
  for (const std::int64_t length : texts.lengths) {
    places.push_back({row, length, std::min<std::int64_t>(texts.prompt_tokens, length)});
    row += length;
  }
  return places;
}

class BatchPooling {
 public:
  BatchPooling(const at::Tensor& states, const TextRows& texts) : places_(places_of(texts)) {
    const std::int64_t rows = places_.back().first_row + places_.back().tokens;
    states_ = states.narrow(0, 0, rows).to(c10::ScalarType::Float).contiguous();
    std::vector<std::int64_t> segments;  // tokens left out and tokens that count, by turns
    for (const Place& place : places_) segments.insert(segments.end(), {place.skipped, place.counted()});
    segments_ = on_device(segments, c10::ScalarType::Long);
  }

  at::Tensor pool(Pooling mode) const {  // [texts, hidden]
    switch (mode) {
      case Pooling::kCls:
        return rows([](const Place& p) { return p.first_row + (p.counted() ? p.skipped : 0); });
      case Pooling::kLastToken: {
        const at::Tensor counts = of_each_text([](const Place& p) { return p.counted() ? 1.0f : 0.0f; });
        const at::Tensor last = rows([](const Place& p) { return p.first_row + p.tokens - 1; });
        return at::where(counts.gt(0), last, at::zeros_like(last));
      }
      case Pooling::kMax:
        return reduce(states_, "max", -std::numeric_limits<float>::infinity());
      case Pooling::kMean:
        return reduce(states_, "sum", 0) / of_each_text([](const Place& p) { return weight(p.counted()); });
      case Pooling::kMeanSqrtLen:
        return reduce(states_, "sum", 0) /
               of_each_text([](const Place& p) { return std::sqrt(weight(p.counted())); });
      case Pooling::kWeightedMean:
        return reduce(states_ * weights(), "sum", 0) / of_each_text([](const Place& p) {
                 return weight((p.tokens * (p.tokens + 1) - p.skipped * (p.skipped + 1)) / 2);
               });
    }
    throw core::InternalError("unknown pooling");
  }

 private:
  static float weight(std::int64_t sum) { return std::max(static_cast<float>(sum), kSmallestWeight); }

  template <class T>
  at::Tensor on_device(const std::vector<T>& values, c10::ScalarType type) const {
    return at::tensor(values, type).to(states_.device());
  }

  template <class Choose>
  at::Tensor rows(const Choose& choose) const {
    std::vector<std::int64_t> chosen;
    for (const Place& place : places_) chosen.push_back(choose(place));
    return states_.index_select(0, on_device(chosen, c10::ScalarType::Long));
  }

  // Computed on the host: its roots and quotients are those of pool().
  template <class Value>
  at::Tensor of_each_text(const Value& value) const {  // [texts, 1]
    std::vector<float> values;
    for (const Place& place : places_) values.push_back(value(place));
    return on_device(values, c10::ScalarType::Float).unsqueeze(1);
  }

  // In the weighted mean a token weighs as much as its place in the whole text, prompt included.
  at::Tensor weights() const {  // [rows, 1]
    std::vector<float> values;
    for (const Place& place : places_)
      for (std::int64_t token = 1; token <= place.tokens; ++token)
        values.push_back(static_cast<float>(token));
    return on_device(values, c10::ScalarType::Float).unsqueeze(1);
  }

  // Over the tokens that count. The lengths are right, so LibTorch need not fetch them back to check.
  at::Tensor reduce(const at::Tensor& values, c10::string_view how, float initial) const {
    const at::Tensor all = at::segment_reduce(values, how, segments_, /*indices=*/{}, /*offsets=*/{},
                                              /*axis=*/0, /*unsafe=*/true, initial);
    return all.view({-1, 2, values.size(1)}).select(1, 1);
  }

  std::vector<Place> places_;
  at::Tensor states_;    // fp32 [rows, hidden]
  at::Tensor segments_;  // int64 [2 * texts]
};

}  // namespace

at::Tensor pool_batch(const at::Tensor& states, const TextRows& texts, std::span<const Pooling> modes) {
  core::internal_check(!texts.lengths.empty(), "a batch to pool has texts");
  const BatchPooling batch(states, texts);
  std::vector<at::Tensor> pooled;
  for (const Pooling mode : modes) pooled.push_back(batch.pool(mode));
  return at::cat(pooled, 1);
}

}  // namespace muster::models
