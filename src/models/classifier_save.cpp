// SPDX-License-Identifier: Apache-2.0
// A trained classifier's folder; docs/training.md describes it.
#include <fmt/format.h>

#include <filesystem>

#include "models/classifier_source.h"
#include "models/json_text.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/strings.h"
#include "muster/formats/safetensors_writer.h"

namespace muster::models {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostTokenizerBytes = std::uint64_t{1} << 30;

// What tokenizers of transformers are made of, and how long sentence-transformers lets a text be.
bool decides_tokens(const std::string& name) {
  static constexpr const char* kNames[] = {"tokenizer.json",
                                           "tokenizer_config.json",
                                           "added_tokens.json",
                                           "vocab.txt",
                                           "vocab.json",
                                           "merges.txt",
                                           "bpe.codes",
                                           "spiece.model",
                                           "sentencepiece.bpe.model",
                                           "tokenizer.model",
                                           "special_tokens_map.json"};
  for (const char* known : kNames)
    if (name == known) return true;
  return name.starts_with("sentence_") && name.ends_with("_config.json");
}

void write_synced(const std::string& path, std::string_view content) {
  const core::UniqueFd file = core::create_for_writing(path);
  core::write_all(file.get(), content, path);
  core::sync(file.get(), path);
}

void copy_tokenizer(const std::string& from, const std::string& to) {
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    if (!decides_tokens(name) || !fs::is_regular_file(entry.path())) continue;
    write_synced(path_in(to, name), core::read_file(entry.path().string(), kMostTokenizerBytes));
  }
}

std::string id2label_text(const std::vector<std::string>& names) {
  std::vector<std::string> members;
  for (std::size_t id = 0; id < names.size(); ++id)
    members.push_back(fmt::format("\n    \"{}\": {}", id, core::json_quote(names[id])));
  return fmt::format("{{{}\n  }}", core::join(members, ","));
}

std::string label2id_text(const std::vector<std::string>& names) {
  std::vector<std::string> members;
  for (std::size_t id = 0; id < names.size(); ++id)
    members.push_back(fmt::format("\n    {}: {}", core::json_quote(names[id]), id));
  return fmt::format("{{{}\n  }}", core::join(members, ","));
}

std::string config_text(const ClassifierSource& source) {
  const std::string& name = source.folder.transformer->facts().transformers_name;
  const char* kind = source.head.is_transformers_own() ? "ForSequenceClassification" : "Model";
  std::map<std::string, std::string> changes{
      {"architectures", fmt::format("[\n    \"{}{}\"\n  ]", name, kind)},
      {"problem_type", "\"multi_label_classification\""},
      {"id2label", id2label_text(source.class_names)},
      {"label2id", label2id_text(source.class_names)},
      {"torch_dtype", "\"float32\""}};
  if (source.config.has("dtype")) changes["dtype"] = changes["torch_dtype"];
  if (source.config.has("num_labels")) changes["num_labels"] = std::to_string(source.class_names.size());
  return json_text_with(source.config, std::move(changes)) + "\n";
}

std::string classifier_text(const TrainingHeadConfig& head) {
  return fmt::format("{{\n  \"head\": \"{}\",\n  \"pooling\": \"{}\",\n  \"classes\": {}\n}}\n",
                     head.kind_name(), head.pooling_name(), head.classes);
}

/// Tensors of one file, by name.
class WeightFile {
 public:
  void add(const std::string& name, const at::Tensor& weight) {
    core::internal_check(
        weight.is_cpu() && weight.scalar_type() == c10::ScalarType::Float && weight.is_contiguous(),
        "weights to save are fp32 on the host");
    tensors_[name] = weight;
  }

  void write(const std::string& path) const {
    std::vector<formats::TensorSpec> specs;
    for (const auto& [name, weight] : tensors_)
      specs.push_back({name, formats::DType::kF32, {weight.sizes().begin(), weight.sizes().end()}});
    formats::SafetensorsWriter writer(
        {.path = path, .tensors = std::move(specs), .metadata = {{"format", "pt"}}});
    for (const formats::TensorSpec& spec : writer.tensors()) {
      const at::Tensor& weight = tensors_.at(spec.name);
      writer.write(spec.name, {static_cast<const std::byte*>(weight.const_data_ptr()), weight.nbytes()});
    }
    writer.finish();
  }

 private:
  std::map<std::string, at::Tensor> tensors_;
};

}  // namespace

std::string saved_prefix(const ClassifierSource& source) {
  return source.head.is_transformers_own() ? source.folder.transformer->facts().weights.prefix : "";
}

void save_classifier(const ClassifierSource& source, const TrainingModel& model, const std::string& folder,
                     std::span<const at::Tensor> weights) {
  core::internal_check(weights.size() == model.parameters().size(), "every parameter is saved");
  WeightFile encoder, classifier;
  const std::string prefix = saved_prefix(source);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const TrainingParameter& entry = model.parameters()[i];
    if (entry.weights == StepWeights::kClassifierFile)
      classifier.add(entry.name, weights[i]);
    else
      encoder.add((entry.weights == StepWeights::kEncoder ? prefix : "") + entry.name, weights[i]);
  }
  core::make_directories(folder);
  copy_tokenizer(source.transformer_path(), folder);
  write_synced(path_in(folder, "config.json"), config_text(source));
  encoder.write(path_in(folder, "model.safetensors"));
  if (!source.head.is_transformers_own()) {
    write_synced(path_in(folder, kClassifierConfig), classifier_text(source.head));
    classifier.write(path_in(folder, fmt::format("{}.safetensors", kClassifierStem)));
  }
  core::sync_directory(folder);
}

}  // namespace muster::models
