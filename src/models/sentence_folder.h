// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/pooling.h"
#include "models/sentence_modules.h"
#include "models/transformer.h"
#include "muster/models/text_encoder.h"

namespace muster::models {

/// A module behind pooling, and the sub-folder of its weights.
struct SentenceStep {
  std::unique_ptr<SentenceModule> module;
  std::string folder;  ///< relative
  bool is_normalize = false;
};

/// A text encoder's folder, read from its config files alone: the structure, still without weights.
struct SentenceFolder {
  std::string folder;
  std::string transformer_folder;  ///< relative; "" in nearly every model
  std::string model_type;
  std::unique_ptr<Transformer> transformer;
  PoolingConfig pooling;
  std::string pooling_folder;  ///< relative; "" when the folder has no modules
  std::vector<SentenceStep> steps;
  std::uint32_t max_length = 0;
  bool lower_case = false;
  std::map<std::string, std::string> prompts;
  std::string default_prompt_name;

  std::uint32_t dimensions() const;
  bool normalizes() const { return !steps.empty() && steps.back().is_normalize; }
  EncoderDescription describe() const;
};

/// DataError names file and key of what is wrong in the folder, ConfigError the override that does not fit
/// it.
SentenceFolder read_sentence_folder(const std::string& folder, const EncoderOverrides& overrides);

/// folder/relative, or folder when relative is empty.
std::string path_in(const std::string& folder, const std::string& relative);

}  // namespace muster::models
