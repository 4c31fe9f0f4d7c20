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

/// A classifier of ours beside its encoder: classifier.json and classifier.safetensors.
inline constexpr const char* kClassifierConfig = "classifier.json";
inline constexpr const char* kClassifierStem = "classifier";

/// Where the weights of a module behind pooling are.
enum class StepWeights {
  kOwnFolder,       ///< model.safetensors of a sub-folder
  kEncoder,         ///< in the encoder's checkpoint, behind its prefix
  kBesideEncoder,   ///< in the encoder's checkpoint, named as they are
  kClassifierFile,  ///< classifier.safetensors
};

/// A module behind pooling.
struct SentenceStep {
  std::unique_ptr<SentenceModule> module;
  std::string folder;  ///< relative; of kOwnFolder
  bool is_normalize = false;
  StepWeights weights = StepWeights::kOwnFolder;
};

/// A text encoder's folder, read from its config files alone: the structure, still without weights.
struct SentenceFolder {
  std::string folder;
  std::string transformer_folder;  ///< relative; "" in nearly every model
  std::string model_type;
  std::unique_ptr<Transformer> transformer;
  WeightRules weights;  ///< of the encoder's checkpoint
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

/// The part that encoders and classifiers share: the transformer, and what it takes of a text.
SentenceFolder read_transformer_folder(const std::string& folder, const std::string& transformer_folder);
/// ConfigError when the transformer does not take as many tokens.
void apply_max_length(SentenceFolder& folder, std::uint32_t length);
/// The sub-folder of the transformer, as modules.json says; "" without one.
std::string transformer_folder_of(const std::string& folder);

/// folder/relative, or folder when relative is empty.
std::string path_in(const std::string& folder, const std::string& relative);

}  // namespace muster::models
