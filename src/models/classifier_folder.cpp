// SPDX-License-Identifier: Apache-2.0
#include "models/classifier_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "muster/models/text_classifier.h"

namespace muster::models {
namespace {

constexpr std::int64_t kMostClasses = 1 << 20;
constexpr std::int64_t kUsualClasses = 2;  // transformers writes no id2label for its default of two
constexpr std::string_view kTask = "ForSequenceClassification";

formats::JsonValue read_encoder_config(const SentenceFolder& encoder) {
  return formats::read_json(path_in(path_in(encoder.folder, encoder.transformer_folder), "config.json"));
}

std::vector<std::string> default_names(std::int64_t classes) {
  std::vector<std::string> names;
  for (std::int64_t id = 0; id < classes; ++id) names.push_back(fmt::format("LABEL_{}", id));
  return names;
}

/// id2label: {"0": "name", ...}, every id from 0 once.
std::vector<std::string> names_of(const formats::JsonValue& id2label) {
  std::vector<std::string> names(id2label.size());
  std::vector<bool> known(names.size());
  for (const auto& [key, name] : id2label.members()) {
    std::size_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id >= names.size() || known[id])
      name.fail(fmt::format("is no id of one of {} classes, which are 0 to {}, each once", names.size(),
                            static_cast<std::int64_t>(names.size()) - 1));
    known[id] = true;
    names[id] = name.as<std::string>();
  }
  if (names.empty()) id2label.fail("lists no class");
  return names;
}

/// nothing: config.json says nothing of classes.
std::vector<std::string> read_class_names(const formats::JsonValue& config) {
  if (const auto id2label = config.find("id2label"); id2label && !id2label->is_null())
    return names_of(*id2label);
  const auto count = config.find("num_labels");
  if (!count || count->is_null()) return {};
  const auto classes = count->as<std::int64_t>();
  if (classes < 1 || classes > kMostClasses)
    count->fail(fmt::format("is {}, expected 1 to {}", classes, kMostClasses));
  return default_names(classes);
}

void add_step(SentenceFolder& encoder, std::unique_ptr<SentenceModule> module, StepWeights weights) {
  encoder.steps.push_back({.module = std::move(module), .folder = "", .weights = weights});
}

nn::Extent hidden_of(const SentenceFolder& encoder) {
  return {encoder.transformer->facts().hidden, "hidden_size"};
}

nn::Extent classes_of(const ClassifierFolder& folder, std::string_view key) {
  return {static_cast<std::int64_t>(folder.class_names.size()), key};
}

// transformers' own head.
void add_sequence_head(ClassifierFolder& out) {
  SentenceFolder& encoder = out.encoder;
  const SequenceHead& head = encoder.transformer->facts().head;
  const nn::Extent hidden = hidden_of(encoder);
  out.head = "linear";
  encoder.pooling.modes = {Pooling::kCls};
  claim(encoder.weights, head.dense);
  claim(encoder.weights, head.output);
  add_step(encoder,
           make_dense({.name = std::string(head.dense),
                       .inputs = hidden,
                       .outputs = hidden,
                       .activation = head.activation}),
           head.dense_naming == Naming::kBehindPrefix ? StepWeights::kEncoder : StepWeights::kBesideEncoder);
  add_step(encoder,
           make_dense(
               {.name = std::string(head.output), .inputs = hidden, .outputs = classes_of(out, "id2label")}),
           StepWeights::kBesideEncoder);
}

// The document's vector of our own heads: the pooler's output, or the mean of the token vectors.
void add_document_vector(SentenceFolder& encoder, const formats::JsonValue& json) {
  const auto pooling = json.at("pooling");
  if (pooling.as<std::string>() == "mean") {
    encoder.pooling.modes = {Pooling::kMean};
    return;
  }
  if (pooling.view() != "first") pooling.fail(fmt::format("is '{}'; known: first, mean", pooling.view()));
  const std::string_view pooler = encoder.transformer->facts().pooler;
  if (pooler.empty())
    pooling.fail(
        fmt::format("is 'first', but {} has no pooler behind its first token; train with mean pooling",
                    encoder.model_type));
  encoder.pooling.modes = {Pooling::kCls};
  claim(encoder.weights, pooler);
  const nn::Extent hidden = hidden_of(encoder);
  add_step(encoder,
           make_dense({.name = std::string(pooler),
                       .inputs = hidden,
                       .outputs = hidden,
                       .activation = nn::Activation::kTanh}),
           StepWeights::kEncoder);
}

// classifier.json: {"head": "bilinear" or "linear", "pooling": "first" or "mean", "classes": C}.
void add_own_head(ClassifierFolder& out, const formats::JsonValue& json) {
  SentenceFolder& encoder = out.encoder;
  const auto head = json.at("head");
  out.head = head.as<std::string>();
  if (out.head != "bilinear" && out.head != "linear")
    head.fail(fmt::format("is '{}'; known: linear, bilinear", core::printable(out.head)));
  const auto count = json.at("classes");
  const auto classes = count.as<std::int64_t>();
  if (classes < 1 || classes > kMostClasses)
    count.fail(fmt::format("is {}, expected 1 to {}", classes, kMostClasses));
  if (out.class_names.empty()) out.class_names = default_names(classes);
  if (static_cast<std::int64_t>(out.class_names.size()) != classes)
    count.fail(fmt::format("is {}, but id2label of {}/config.json names {} classes", classes, encoder.folder,
                           out.class_names.size()));
  add_document_vector(encoder, json);
  const nn::Extent hidden = hidden_of(encoder), rows = classes_of(out, "classes");
  add_step(encoder,
           out.head == "bilinear" ? make_bilinear(hidden, rows)
                                  : make_dense({.name = "classifier", .inputs = hidden, .outputs = rows}),
           StepWeights::kClassifierFile);
}

std::vector<std::string> architectures_of(const formats::JsonValue& config) {
  const auto names = config.find("architectures");
  return names && !names->is_null() ? names->as_list<std::string>() : std::vector<std::string>();
}

bool names_head(const std::vector<std::string>& architectures) {
  return std::any_of(architectures.begin(), architectures.end(),
                     [](const std::string& name) { return name.ends_with(kTask); });
}

// A folder that does not say what it is made for is taken at the user's word; loading tells.
void expect_head(const SentenceFolder& encoder, const formats::JsonValue& config) {
  const auto names = architectures_of(config);
  if (names.empty() || names_head(names)) return;
  throw core::DataError(
      fmt::format("{} is an encoder without a classification head: its config.json has architectures [{}] "
                  "and there is no "
                  "{}; train one on it with `muster train`, or give the folder of a ...{} model",
                  encoder.folder, core::printable(core::join(names, ", ")), kClassifierConfig, kTask));
}

}  // namespace

bool is_text_classifier(const std::string& folder) {
  if (std::filesystem::exists(path_in(folder, kClassifierConfig))) return true;
  const std::string config = path_in(folder, "config.json");
  return std::filesystem::exists(config) && names_head(architectures_of(formats::read_json(config)));
}

ClassifierFolder read_classifier_folder(const std::string& folder, const EncoderOverrides& overrides) {
  if (!std::filesystem::is_directory(folder))
    throw core::DataError(fmt::format("{}: no such model folder", folder));
  ClassifierFolder out;
  out.encoder = read_transformer_folder(folder, transformer_folder_of(folder));
  const auto config = read_encoder_config(out.encoder);
  out.class_names = read_class_names(config);
  out.problem_type = config.get_or<std::string>("problem_type", "");
  const std::string own = path_in(folder, kClassifierConfig);
  if (std::filesystem::exists(own)) {
    add_own_head(out, formats::read_json(own));
  } else {
    expect_head(out.encoder, config);
    if (out.class_names.empty()) out.class_names = default_names(kUsualClasses);
    add_sequence_head(out);
  }
  if (overrides.max_length) apply_max_length(out.encoder, *overrides.max_length);
  return out;
}

}  // namespace muster::models
