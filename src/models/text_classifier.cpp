// SPDX-License-Identifier: Apache-2.0
#include "muster/models/text_classifier.h"

#include <filesystem>

#include "models/classifier_folder.h"
#include "models/sentence_encoder.h"

namespace muster::models {

ClassifierDescription describe_text_classifier(const std::string& folder, const EncoderOverrides& overrides) {
  ClassifierFolder read = read_classifier_folder(folder, overrides);
  return {.encoder = read.encoder.describe(),
          .class_names = std::move(read.class_names),
          .head = std::move(read.head),
          .problem_type = std::move(read.problem_type)};
}

std::unique_ptr<TextEncoder> load_text_classifier(const EncoderLoadConfig& config) {
  check_hardware(config);
  return load_sentence_encoder(read_classifier_folder(config.folder, config.overrides).encoder, config);
}

}  // namespace muster::models
