// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "models/training_model.h"
#include "muster/formats/json.h"

namespace muster::models {

/// The folder that a classifier's training starts from, and what is to become of it.
struct ClassifierSource {
  SentenceFolder folder;
  formats::JsonValue config;  ///< config.json
  TrainingHeadConfig head;
  std::vector<std::string> class_names;

  std::string transformer_path() const { return path_in(folder.folder, folder.transformer_folder); }
};

/// First weights for those of the parameters that the folder lacks.
struct NewWeights {
  std::uint64_t seed = 0;
  std::span<const std::vector<std::uint32_t>> class_tokens;  ///< as ClassifierConfig has them
};

/// fp32 copies of all parameters of a model of this source, in their order; the model keeps them, too.
std::vector<at::Tensor> load_classifier_weights(const ClassifierSource& source, const NewWeights& rules,
                                                TrainingModel& model);
/// Writes the folder of the trained classifier; `weights` in the order of the model's parameters.
void save_classifier(const ClassifierSource& source, const TrainingModel& model, const std::string& folder,
                     std::span<const at::Tensor> weights);
/// The encoder's prefix in a folder of transformers' own form; "" in one of ours.
std::string saved_prefix(const ClassifierSource& source);

}  // namespace muster::models
