// SPDX-License-Identifier: Apache-2.0
#include "phases/infer/prediction_record.h"

#include <algorithm>

#include "muster/core/error.h"

namespace muster::phases {
namespace {

constexpr std::size_t kWord = sizeof(std::int32_t);
static_assert(sizeof(float) == kWord && sizeof(taxonomy::ClassId) == kWord);

template <class T>
void append(std::vector<std::byte>& out, std::span<const T> values) {
  const auto bytes = std::as_bytes(values);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace

std::vector<std::byte> PredictionRecord::pack(const DocumentFacts& facts, const Prediction& prediction,
                                              std::span<const float> logits) {
  std::vector<std::byte> payload;
  payload.reserve(bytes({prediction.top.size(), logits.size()}, prediction.labels.size()));
  const std::int32_t header[kHeader] = {facts.tokens, facts.truncated ? 1 : 0,
                                        static_cast<std::int32_t>(prediction.labels.size())};
  append<std::int32_t>(payload, header);
  append<taxonomy::ClassId>(payload, prediction.labels);
  append<float>(payload, prediction.scores);
  append<taxonomy::ClassId>(payload, prediction.top);
  append<float>(payload, prediction.top_scores);
  append<float>(payload, logits);
  return payload;
}

std::size_t PredictionRecord::bytes(const Shape& shape, std::size_t labels) {
  return (kHeader + 2 * labels + 2 * shape.top + shape.logits) * kWord;
}

std::size_t PredictionRecord::labels_in(const Shape& shape, std::size_t payload_bytes) {
  core::internal_check(payload_bytes >= bytes(shape, 0), "a prediction's record is whole");
  return (payload_bytes - bytes(shape, 0)) / (2 * kWord);
}

PredictionRecord::PredictionRecord(const Shape& shape, Bytes payload)
    : shape_(shape), payload_(payload), labels_(labels_in(shape, payload.size())) {
  core::internal_check(payload.size() == bytes(shape, labels_), "a prediction's record is whole");
}

bool PredictionRecord::truncated() const {
  const Bytes flag = words(1, 1);
  return std::any_of(flag.begin(), flag.end(), [](std::byte part) { return part != std::byte{0}; });
}

PredictionRecord::Bytes PredictionRecord::words(std::size_t first, std::size_t count) const {
  return payload_.subspan(first * kWord, count * kWord);
}

}  // namespace muster::phases
