// SPDX-License-Identifier: Apache-2.0
#include "phases/infer/infer_options.h"

#include <fmt/format.h>

#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "phases/text_model/model_choice.h"

namespace muster::phases {
namespace {

using config::AffectsResults;
using config::HelpPlace;
using config::KeyType;
using config::Schema;

constexpr double kMostLabels = 1 << 20;
constexpr std::string_view kNoSeparator = "\"\r\n";

void add_decoding(Schema& schema) {
  schema
      .add({.name = "infer.labels",
            .default_value = "top_k",
            .doc = "of a document: top_k, threshold, path or argmax",
            .flags = {"--labels"},
            .affects = AffectsResults::kYes,
            .choices = {"top_k", "threshold", "path", "argmax"}})
      .add({.name = "infer.top_k",
            .type = KeyType::kInt,
            .default_value = "3",
            .doc = "of top_k: how many",
            .flags = {"--top-k"},
            .affects = AffectsResults::kYes,
            .minimum = 1,
            .maximum = kMostLabels})
      .add({.name = "infer.threshold",
            .type = KeyType::kFloat,
            .default_value = "0.5",
            .doc = "of threshold: all at or above it, or the best one",
            .flags = {"--threshold"},
            .affects = AffectsResults::kYes})
      .add({.name = "infer.activation",
            .default_value = "auto",
            .doc = "scores of logits; auto: as the model's problem_type",
            .flags = {"--activation"},
            .affects = AffectsResults::kYes,
            .choices = {"auto", "sigmoid", "softmax", "none"}})
      .add({.name = "infer.ancestors",
            .type = KeyType::kBool,
            .default_value = "false",
            .doc = "add all classes above the labels",
            .flags = {"--ancestors"},
            .affects = AffectsResults::kYes})
      .add({.name = "infer.min_labels",
            .type = KeyType::kInt,
            .default_value = "1",
            .doc = "the next best are added up to this",
            .flags = {"--min-labels"},
            .affects = AffectsResults::kYes,
            .minimum = 1,
            .maximum = kMostLabels})
      .add({.name = "infer.max_labels",
            .type = KeyType::kInt,
            .default_value = "none",
            .doc = "the least likely are dropped down to this",
            .flags = {"--max-labels"},
            .affects = AffectsResults::kYes,
            .none_allowed = true,
            .minimum = 1})
      .add({.name = "infer.beam",
            .type = KeyType::kInt,
            .default_value = "10",
            .doc = "of path: ways kept at each level",
            .flags = {"--beam"},
            .affects = AffectsResults::kYes,
            .minimum = 1,
            .maximum = kMostLabels,
            .help = HelpPlace::kCompact})
      .add({.name = "infer.path_shortest",
            .type = KeyType::kInt,
            .default_value = "2",
            .doc = "of path: fewest classes",
            .flags = {"--path-shortest"},
            .affects = AffectsResults::kYes,
            .minimum = 1,
            .maximum = 1024,
            .help = HelpPlace::kCompact})
      .add({.name = "infer.path_longest",
            .type = KeyType::kInt,
            .default_value = "3",
            .doc = "of path: most classes",
            .flags = {"--path-longest"},
            .affects = AffectsResults::kYes,
            .minimum = 1,
            .maximum = 1024,
            .help = HelpPlace::kCompact});
}

// Paths: the digests of the files belong to the identity.
void add_taxonomy(Schema& schema) {
  schema
      .add({.name = "taxonomy.classes",
            .doc = "id<TAB>name of all classes; else the model's names",
            .flags = {"--classes"},
            .value_name = "FILE"})
      .add({.name = "taxonomy.hierarchy",
            .doc = "parent<TAB>child of classes",
            .flags = {"--hierarchy"},
            .value_name = "FILE"});
}

void add_output(Schema& schema) {
  schema
      .add({.name = "output.header",
            .default_value = "id,labels",
            .doc = "column names of submission.csv",
            .flags = {"--header"},
            .affects = AffectsResults::kYes})
      .add({.name = "output.label_style",
            .default_value = "ids",
            .doc = "labels in submission.csv",
            .flags = {"--label-style"},
            .affects = AffectsResults::kYes,
            .choices = {"ids", "names", "onehot", "probabilities"}})
      .add({.name = "output.separator",
            .default_value = ",",
            .doc = "between a document's labels",
            .flags = {"--separator"},
            .affects = AffectsResults::kYes,
            .value_name = "TEXT",
            .help = HelpPlace::kCompact})
      .add({.name = "output.logits",
            .type = KeyType::kBool,
            .default_value = "false",
            .doc = "keep all logits in predictions.h5",
            .flags = {"--logits"},
            .affects = AffectsResults::kYes,
            .help = HelpPlace::kCompact})
      .add({.name = "output.probabilities",
            .type = KeyType::kBool,
            .default_value = "false",
            .doc = "keep the scores of all classes there",
            .flags = {"--probabilities"},
            .affects = AffectsResults::kYes,
            .help = HelpPlace::kCompact})
      .add({.name = "output.top_probabilities",
            .type = KeyType::kInt,
            .default_value = "0",
            .doc = "keep the scores of the best K classes there",
            .flags = {"--top-probabilities"},
            .affects = AffectsResults::kYes,
            .minimum = 0,
            .maximum = kMostLabels,
            .value_name = "K",
            .help = HelpPlace::kCompact});
}

ScoreFunction read_function(const std::string& name, const std::string& problem_type) {
  if (name == "sigmoid") return ScoreFunction::kSigmoid;
  if (name == "softmax") return ScoreFunction::kSoftmax;
  if (name == "none") return ScoreFunction::kNone;
  if (problem_type == "single_label_classification") return ScoreFunction::kSoftmax;
  return problem_type == "regression" ? ScoreFunction::kNone : ScoreFunction::kSigmoid;
}

LabelRule read_rule(const std::string& name) {
  if (name == "threshold") return LabelRule::kThreshold;
  if (name == "path") return LabelRule::kPath;
  return name == "argmax" ? LabelRule::kArgmax : LabelRule::kTopK;
}

LabelStyle read_style(const std::string& name) {
  if (name == "names") return LabelStyle::kNames;
  if (name == "onehot") return LabelStyle::kOneHot;
  return name == "probabilities" ? LabelStyle::kProbabilities : LabelStyle::kIds;
}

DecodeOptions read_decoding(const config::Config& config, const std::string& problem_type) {
  const auto count = [&](const char* key) { return static_cast<std::size_t>(config.integer(key)); };
  DecodeOptions options;
  options.rule = read_rule(config.string("infer.labels"));
  options.function = read_function(config.string("infer.activation"), problem_type);
  options.top_k = count("infer.top_k");
  options.threshold = config.number("infer.threshold");
  options.closure = config.boolean("infer.ancestors") ? LabelClosure::kAncestors : LabelClosure::kNo;
  options.min_labels = count("infer.min_labels");
  options.max_labels = count("infer.max_labels");
  options.path.width = count("infer.beam");
  options.path.shortest = count("infer.path_shortest");
  options.path.longest = count("infer.path_longest");
  options.top_scores = count("output.top_probabilities");
  return options;
}

void check_decoding(const DecodeOptions& options, const std::string& hierarchy_path) {
  if (options.path.shortest > options.path.longest)
    throw core::ConfigError(fmt::format("infer.path_shortest is {}, above infer.path_longest {}",
                                        options.path.shortest, options.path.longest));
  if (options.min_labels > options.max_labels)
    throw core::ConfigError(fmt::format("infer.min_labels is {}, above infer.max_labels {}",
                                        options.min_labels, options.max_labels));
  if (options.rule == LabelRule::kThreshold && options.function != ScoreFunction::kNone &&
      !(options.threshold > 0 && options.threshold < 1))
    throw core::ConfigError(fmt::format(
        "infer.threshold is {}, but scores of {} are between 0 and 1; a threshold on logits wants "
        "infer.activation none",
        options.threshold, score_function_name(options.function)));
  const DecodeOptions usual;
  const bool path = options.rule == LabelRule::kPath;
  if (path && options.function == ScoreFunction::kNone)
    throw core::ConfigError(
        "infer.labels path multiplies probabilities, which infer.activation none does not "
        "make; use sigmoid or softmax");
  if (path && (options.min_labels != usual.min_labels || options.max_labels != usual.max_labels))
    throw core::ConfigError(
        "infer.labels path has its own limits, infer.path_shortest and "
        "infer.path_longest; leave infer.min_labels and infer.max_labels out");
  if ((path || options.closure == LabelClosure::kAncestors) && hierarchy_path.empty())
    throw core::ConfigError(fmt::format("{} needs taxonomy.hierarchy, a file of parent<TAB>child",
                                        path ? "infer.labels path" : "infer.ancestors"));
}

SubmissionOptions read_submission(const config::Config& config) {
  SubmissionOptions options;
  const auto columns = core::split(config.string("output.header"), ',');
  if (columns.size() != 2 || columns[0].empty() || columns[1].empty())
    throw core::ConfigError(
        fmt::format("output.header is '{}', expected the names of two columns with a comma between them, "
                    "such as id,labels",
                    core::printable(config.string("output.header"))));
  options.id_column = columns[0];
  options.label_column = columns[1];
  options.style = read_style(config.string("output.label_style"));
  options.separator = config.string("output.separator");
  if (options.separator.empty() || options.separator.find_first_of(kNoSeparator) != std::string::npos)
    throw core::ConfigError(
        fmt::format("output.separator is '{}', expected a text without quotes and line ends",
                    core::printable(options.separator)));
  return options;
}

}  // namespace

std::string score_function_name(ScoreFunction function) {
  switch (function) {
    case ScoreFunction::kSigmoid:
      return "sigmoid";
    case ScoreFunction::kSoftmax:
      return "softmax";
    case ScoreFunction::kNone:
      return "none";
  }
  throw core::InternalError("unknown score function");
}

Schema infer_schema() {
  Schema schema;
  schema.add(max_length_key());
  add_decoding(schema);
  add_taxonomy(schema);
  add_output(schema);
  return schema;
}

InferOptions read_infer_options(const config::Config& config, const std::string& problem_type) {
  InferOptions options;
  options.classes_path = config.string("taxonomy.classes");
  options.hierarchy_path = config.string("taxonomy.hierarchy");
  options.decode = read_decoding(config, problem_type);
  check_decoding(options.decode, options.hierarchy_path);
  options.submission = read_submission(config);
  const auto keep = [](bool wanted) { return wanted ? Keep::kYes : Keep::kNo; };
  options.logits = keep(config.boolean("output.logits"));
  options.probabilities =
      keep(config.boolean("output.probabilities") || options.submission.style == LabelStyle::kProbabilities);
  return options;
}

}  // namespace muster::phases
