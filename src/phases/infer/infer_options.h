// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <limits>
#include <string>

#include "muster/config/schema.h"
#include "muster/taxonomy/decode.h"

namespace muster::phases {

enum class LabelRule { kTopK, kThreshold, kPath, kArgmax };
/// What makes scores of logits.
enum class ScoreFunction { kSigmoid, kSoftmax, kNone };
std::string score_function_name(ScoreFunction function);
enum class LabelClosure { kNo, kAncestors };
enum class LabelStyle { kIds, kNames, kOneHot, kProbabilities };
enum class Keep { kNo, kYes };

/// From logits to labels.
struct DecodeOptions {
  LabelRule rule = LabelRule::kTopK;
  ScoreFunction function = ScoreFunction::kSigmoid;
  std::size_t top_k = 3;
  double threshold = 0.5;
  LabelClosure closure = LabelClosure::kNo;
  std::size_t min_labels = 1;
  std::size_t max_labels = std::numeric_limits<std::int64_t>::max();  ///< what `none` reads as
  taxonomy::PathSearch path;
  std::size_t top_scores = 0;  ///< best classes that are kept beside the labels
};

/// submission.csv.
struct SubmissionOptions {
  std::string id_column = "id", label_column = "labels";
  LabelStyle style = LabelStyle::kIds;
  std::string separator = ",";
};

/// The keys of `infer`, as values.
struct InferOptions {
  std::string classes_path, hierarchy_path;
  DecodeOptions decode;
  SubmissionOptions submission;
  Keep logits = Keep::kNo, probabilities = Keep::kNo;
};

config::Schema infer_schema();
/// `problem_type` is the model's: what infer.activation auto means. ConfigError for combinations that make no
/// sense.
InferOptions read_infer_options(const config::Config& config, const std::string& problem_type);

}  // namespace muster::phases
