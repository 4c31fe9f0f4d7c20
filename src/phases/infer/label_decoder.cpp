// SPDX-License-Identifier: Apache-2.0
#include "phases/infer/label_decoder.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "muster/core/error.h"
#include "muster/taxonomy/decode.h"

namespace muster::phases {
namespace {

using taxonomy::ClassId;

float at(std::span<const float> values, ClassId id) {
  return values[static_cast<std::size_t>(id)];
}

bool contains(const std::vector<ClassId>& labels, ClassId id) {
  return std::find(labels.begin(), labels.end(), id) != labels.end();
}

}  // namespace

LabelDecoder::LabelDecoder(const DecodeOptions& options, taxonomy::Hierarchy hierarchy)
    : options_(options), hierarchy_(std::move(hierarchy)) {}

Prediction LabelDecoder::decode(std::span<const float> logits) const {
  core::internal_check(logits.size() == classes(), "a logit for every class");
  const double sum = log_sum(logits);
  Prediction prediction;
  prediction.labels = choose(logits, sum);
  close(prediction.labels);
  if (options_.rule != LabelRule::kPath) {
    fill(prediction.labels, logits);
    drop(prediction.labels, logits);
  }
  for (const ClassId id : prediction.labels) prediction.scores.push_back(score(at(logits, id), sum));
  prediction.top = taxonomy::top_k(logits, options_.top_scores);
  for (const ClassId id : prediction.top) prediction.top_scores.push_back(score(at(logits, id), sum));
  return prediction;
}

void LabelDecoder::scores(std::span<const float> logits, std::span<float> out) const {
  const double sum = log_sum(logits);
  std::transform(logits.begin(), logits.end(), out.begin(), [&](float logit) { return score(logit, sum); });
}

// log(sum(exp)), of softmax; in the order of the classes, so that it is the same everywhere.
double LabelDecoder::log_sum(std::span<const float> logits) const {
  if (options_.function != ScoreFunction::kSoftmax) return 0;
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  return most + std::log(sum);
}

float LabelDecoder::score(float logit, double log_sum) const {
  switch (options_.function) {
    case ScoreFunction::kSigmoid:
      return static_cast<float>(1 / (1 + std::exp(-static_cast<double>(logit))));
    case ScoreFunction::kSoftmax:
      return static_cast<float>(std::exp(logit - log_sum));
    case ScoreFunction::kNone:
      return logit;
  }
  throw core::InternalError("unknown score function");
}

// The threshold as a logit: nothing needs to be computed of the classes below it.
float LabelDecoder::cut(double log_sum) const {
  const double threshold = options_.threshold;
  switch (options_.function) {
    case ScoreFunction::kSigmoid:
      return static_cast<float>(std::log(threshold / (1 - threshold)));
    case ScoreFunction::kSoftmax:
      return static_cast<float>(std::log(threshold) + log_sum);
    case ScoreFunction::kNone:
      return static_cast<float>(threshold);
  }
  throw core::InternalError("unknown score function");
}

LabelDecoder::Labels LabelDecoder::choose(std::span<const float> logits, double log_sum) const {
  switch (options_.rule) {
    case LabelRule::kTopK:
      return taxonomy::top_k(logits, options_.top_k);
    case LabelRule::kArgmax:
      return taxonomy::top_k(logits, 1);
    case LabelRule::kThreshold:
      return taxonomy::above_threshold(logits, cut(log_sum));
    case LabelRule::kPath: {
      std::vector<float> probabilities(logits.size());
      std::transform(logits.begin(), logits.end(), probabilities.begin(),
                     [&](float logit) { return score(logit, log_sum); });
      return taxonomy::best_path(probabilities, hierarchy_, options_.path);
    }
  }
  throw core::InternalError("unknown label rule");
}

// Ancestors behind the labels that brought them, by id.
void LabelDecoder::close(Labels& labels) const {
  if (options_.closure == LabelClosure::kNo) return;
  Labels known = labels;
  std::sort(known.begin(), known.end());
  const Labels all = hierarchy_.closure(labels);
  std::set_difference(all.begin(), all.end(), known.begin(), known.end(), std::back_inserter(labels));
}

void LabelDecoder::fill(Labels& labels, std::span<const float> logits) const {
  if (labels.size() >= options_.min_labels) return;
  for (const ClassId id : taxonomy::top_k(logits, labels.size() + options_.min_labels)) {
    if (labels.size() >= options_.min_labels) return;
    if (contains(labels, id)) continue;
    labels.push_back(id);
    close(labels);
  }
}

// The least likely goes first; where labels are closed, one without a label below it.
void LabelDecoder::drop(Labels& labels, std::span<const float> logits) const {
  if (labels.size() <= options_.max_labels) return;
  const bool closed = options_.closure == LabelClosure::kAncestors;
  std::vector<int> below(classes(), 0);
  const auto count = [&](ClassId id, int change) {
    for (const ClassId above : hierarchy_.ancestors(id)) below[static_cast<std::size_t>(above)] += change;
  };
  if (closed)
    for (const ClassId id : labels) count(id, 1);
  while (labels.size() > options_.max_labels) {
    auto least = labels.end();
    for (auto label = labels.begin(); label != labels.end(); ++label) {
      if (below[static_cast<std::size_t>(*label)] > 0) continue;
      if (least == labels.end() || at(logits, *label) < at(logits, *least) ||
          (at(logits, *label) == at(logits, *least) && *label > *least))
        least = label;
    }
    core::internal_check(least != labels.end(), "some label has none below it");
    if (closed) count(*least, -1);
    labels.erase(least);
  }
}

}  // namespace muster::phases
