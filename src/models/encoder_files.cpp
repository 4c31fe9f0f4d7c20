// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <set>

#include "models/classifier_folder.h"
#include "models/weights.h"
#include "muster/models/text_classifier.h"

namespace muster::models {
namespace {

namespace fs = std::filesystem;

// Whatever of these a folder has decides its results; README and the like do not.
constexpr const char* kNames[] = {
    "config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
};

void add_files(const fs::path& root, const std::string& relative, std::set<std::string>& out) {
  const fs::path folder = path_in(root.string(), relative);
  const auto add = [&](const fs::path& path) { out.insert(path.lexically_relative(root).generic_string()); };
  for (const char* name : kNames)
    if (fs::exists(folder / name)) add(folder / name);
  if (!fs::is_directory(folder)) return;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("sentence_") && name.ends_with("_config.json")) add(entry.path());
  }
}

void add_weights(const fs::path& root, const std::string& relative, std::set<std::string>& out) {
  const fs::path folder = path_in(root.string(), relative);
  const auto add = [&](const fs::path& path) { out.insert(path.lexically_relative(root).generic_string()); };
  const formats::Safetensors checkpoint = open_checkpoint(folder.string());
  for (const std::string& file : checkpoint.files()) add(file);
  if (!fs::exists(folder / "model.safetensors")) add(folder / "model.safetensors.index.json");
}

}  // namespace

std::vector<std::string> text_encoder_files(const std::string& folder) {
  const SentenceFolder encoder = read_sentence_folder(folder, {});
  std::set<std::string> files;
  add_files(folder, "", files);
  add_files(folder, encoder.transformer_folder, files);
  add_weights(folder, encoder.transformer_folder, files);
  if (!encoder.pooling_folder.empty()) add_files(folder, encoder.pooling_folder, files);
  for (const SentenceStep& step : encoder.steps) {
    add_files(folder, step.folder, files);
    if (step.module->parameter_count() > 0) add_weights(folder, step.folder, files);
  }
  return {files.begin(), files.end()};
}

std::vector<std::string> text_classifier_files(const std::string& folder) {
  const ClassifierFolder classifier = read_classifier_folder(folder, {});
  std::set<std::string> files;
  add_files(folder, "", files);
  add_files(folder, classifier.encoder.transformer_folder, files);
  add_weights(folder, classifier.encoder.transformer_folder, files);
  if (fs::exists(path_in(folder, kClassifierConfig))) {
    files.insert(kClassifierConfig);
    const auto weights = formats::Safetensors::open(folder, kClassifierStem);
    for (const std::string& file : weights.files())
      files.insert(fs::path(file).lexically_relative(folder).generic_string());
    if (!fs::exists(fs::path(folder) / "classifier.safetensors"))
      files.insert("classifier.safetensors.index.json");
  }
  return {files.begin(), files.end()};
}

}  // namespace muster::models
