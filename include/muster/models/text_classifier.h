// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "muster/models/text_encoder.h"

namespace muster::models {

/// What config files alone tell of a trained text classifier.
struct ClassifierDescription {
  EncoderDescription encoder;            ///< `dimensions` are the classes
  std::vector<std::string> class_names;  ///< id2label of config.json, by id
  std::string head;                      ///< "linear", "bilinear"
  std::string problem_type;              ///< as config.json says; "" when it does not
};

/// Whether a folder's config files name a classification head. False for what is no model's folder.
bool is_text_classifier(const std::string& folder);
/// A folder of transformers' ...ForSequenceClassification, or one of ours with classifier.json and
/// classifier.safetensors (docs/training.md). DataError names file and key; an encoder without a head is
/// refused with what to do.
ClassifierDescription describe_text_classifier(const std::string& folder,
                                               const EncoderOverrides& overrides = {});
std::vector<std::string> text_classifier_files(const std::string& folder);
/// A TextEncoder whose embeddings are the logits, fp32 [texts, classes]. Strict loading.
std::unique_ptr<TextEncoder> load_text_classifier(const EncoderLoadConfig& config);

}  // namespace muster::models
