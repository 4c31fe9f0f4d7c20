// SPDX-License-Identifier: Apache-2.0
#include "phases/teleclass/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "phases/encode/embedding_map.h"
#include "phases/infer/infer_options.h"
#include "phases/teleclass/similarity.h"
#include "phases/text_model/model_choice.h"
#include "phases/train/options.h"

namespace muster::phases {
namespace {

using config::KeyType;

constexpr std::string_view kName = "{name}";
constexpr std::string_view kKeywords = "{keywords}";

// Where documents come from is the pipeline's own matter, as are the labels it trains on; a limit would mean
// another thing in every stage.
constexpr std::array<std::string_view, 5> kOfStages{"input.path", "input.id_prefix", "run.limit",
                                                    "report.labels", "train.labels"};

// The first to bring a key decides what is said of it.
void add_new(config::Schema& schema, const config::Schema& other) {
  for (const auto& key : other.keys()) {
    const bool of_stage = std::find(kOfStages.begin(), kOfStages.end(), key.name) != kOfStages.end();
    if (!of_stage && schema.find(key.name) == nullptr) schema.add(key);
  }
}

void add_files(config::Schema& schema) {
  schema
      .add({.name = "teleclass.data",
            .doc = "a data set's folder: Amazon_products or TELEClass",
            .flags = {"--data"},
            .value_name = "DIR"})
      .add({.name = "teleclass.train_corpus",
            .doc = "documents to learn from; else the folder's",
            .flags = {"--train-corpus"},
            .value_name = "FILE"})
      .add({.name = "teleclass.test_corpus",
            .doc = "documents to label; else the folder's",
            .flags = {"--test-corpus"},
            .value_name = "FILE"})
      .add({.name = "teleclass.test_gold",
            .doc = "their labels, for scoring alone; none: no scoring",
            .flags = {"--test-gold"},
            .value_name = "FILE"})
      .add({.name = "taxonomy.keywords",
            .doc = "class name:term,term,...; else the folder's",
            .flags = {"--keywords"},
            .value_name = "FILE"});
}

void add_method(config::Schema& schema) {
  schema
      .add({.name = "teleclass.method",
            .default_value = "similarity",
            .doc = "how pseudo-labels are made",
            .choices = {"similarity"}})
      .add({.name = "teleclass.class_text",
            .default_value = "The product category is {name}, associated with keywords: {keywords}",
            .doc = "the text of a class that is encoded",
            .flags = {"--class-text"},
            .check = check_class_text,
            .value_name = "TEXT"})
      .add({.name = "teleclass.classifier_model",
            .doc = "the model that is fine-tuned; else that of the embeddings",
            .flags = {"--classifier-model"},
            .value_name = "MODEL"})
      .add({.name = "teleclass.classifier_max_length",
            .type = KeyType::kInt,
            .default_value = "128",
            .doc = "tokens of a document that it takes; auto: as many as it can",
            .flags = {"--classifier-max-length"},
            .auto_allowed = true,
            .minimum = 3})
      .add({.name = "teleclass.until",
            .default_value = "scores",
            .doc = "stop behind this part",
            .flags = {"--until"},
            .choices = {"documents", "labels", "model", "infer", "scores"}})
      .add({.name = "teleclass.redo",
            .default_value = "none",
            .doc = "do this stage again, and those behind it whose input changes",
            .flags = {"--redo"},
            .choices = {"none", "documents", "classes", "labels", "zero_shot", "model", "infer", "scores"},
            .value_name = "STAGE"});
}

std::string with_blanks(std::string text) {
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

// A text of one line.
std::string plain(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  return text;
}

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size())
    text.replace(at, what.size(), with);
}

// "..., associated with keywords: {keywords}" says nothing of a class without keywords.
std::string without_keywords(std::string format) {
  const auto at = format.find(kKeywords);
  if (at == std::string::npos) return format;
  const auto comma = format.rfind(',', at), name = format.rfind(kName);
  const bool whole_part = comma != std::string::npos && (name == std::string::npos || name < comma);
  if (!whole_part) return format;
  const auto end = at + kKeywords.size();
  return format.substr(0, comma) + format.substr(end);
}

std::string file_or(const config::Config& config, const char* key, const std::string& of_layout) {
  const std::string given = config.string(key);
  if (given.empty()) return of_layout;
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(given, ignored))
    throw core::DataError(fmt::format("{}: {} is no file that can be read", key, given));
  return given;
}

}  // namespace

config::Schema teleclass_schema() {
  config::Schema schema;
  add_files(schema);
  add_method(schema);
  add_new(schema, config::common_schema());
  add_new(schema, encoder_schema());
  add_new(schema, embedding_map_schema());
  add_new(schema, similarity_rule_schema());
  add_new(schema, train_schema());
  add_new(schema, infer_schema());
  schema.make_optional("taxonomy.classes");
  schema.set_default("input.format", "tsv");
  schema.set_default("output.logits", "true");  // P@k and MRR rank all classes
  return schema;
}

TeleclassFiles find_teleclass_files(const config::Config& config) {
  DatasetLayout layout;
  if (const auto folder = config.string("teleclass.data"); !folder.empty()) layout = find_layout(folder);
  TeleclassFiles files{.classes = file_or(config, "taxonomy.classes", layout.classes),
                       .hierarchy = file_or(config, "taxonomy.hierarchy", layout.hierarchy),
                       .keywords = file_or(config, "taxonomy.keywords", layout.keywords),
                       .train_corpus = file_or(config, "teleclass.train_corpus", layout.train_corpus),
                       .test_corpus = file_or(config, "teleclass.test_corpus", layout.test_corpus),
                       .test_gold = config.string("teleclass.test_gold") == "none"
                                        ? ""
                                        : file_or(config, "teleclass.test_gold", layout.test_gold)};
  if (files.classes.empty() || files.test_corpus.empty())
    throw core::ConfigError(
        "there is nothing to classify: name a data set's folder (teleclass.data), or taxonomy.classes and "
        "teleclass.test_corpus");
  if (files.train_corpus.empty() && config.string("teleclass.train_on") == "train")
    throw core::ConfigError("teleclass.train_on is train, but there is no teleclass.train_corpus");
  return files;
}

std::string check_class_text(const std::string& format) {
  if (format.find(kName) == std::string::npos) return "a text with {name} in it, and {keywords} where wanted";
  return plain(format) == format ? "" : "a text of one line, without tabs";
}

std::string class_texts(const LabelSpace& space, const std::string& format) {
  std::string out = "id\ttext\n";
  for (std::size_t id = 0; id < space.names.size(); ++id) {
    const auto& keywords = space.keywords[id];
    std::string text = keywords.empty() ? without_keywords(format) : format;
    // Keywords first: a name is put in as it is, whatever it holds.
    replace_all(text, kKeywords, with_blanks(core::join(keywords, ", ")));
    replace_all(text, kName, with_blanks(space.names[id]));
    out += fmt::format("{}\t{}\n", id, plain(text));
  }
  return out;
}

}  // namespace muster::phases
