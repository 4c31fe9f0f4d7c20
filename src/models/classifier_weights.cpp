// SPDX-License-Identifier: Apache-2.0
// A classifier's first weights: the folder's, and new ones for what it lacks.
#include <ATen/Functions.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numbers>

#include "models/classifier_folder.h"
#include "models/classifier_source.h"
#include "models/token_batch.h"
#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/log.h"
#include "muster/core/philox.h"
#include "muster/core/strings.h"

namespace muster::models {
namespace {

constexpr std::size_t kClassesAtOnce = 64;
constexpr std::size_t kSpecialTokens = 2;  // first and last of a text

// Whether the folder has a head of ours of this kind; another kind starts anew.
bool has_own_head(const ClassifierSource& source) {
  const std::string path = path_in(source.folder.folder, kClassifierConfig);
  if (!std::filesystem::exists(path)) return false;
  const auto json = formats::read_json(path);
  const auto head = json.get<std::string>("head"), pooling = json.get<std::string>("pooling");
  const std::string wanted_head = source.head.kind_name(), wanted_pooling = source.head.pooling_name();
  if (head == wanted_head && pooling == wanted_pooling && !source.head.is_transformers_own()) return true;
  core::log::warning(
      "{}: the folder's head is {} with pooling {}; the {} head with pooling {} starts from new weights",
      source.folder.folder, head, pooling, wanted_head, wanted_pooling);
  return false;
}

// Other tasks' heads share names with this one, so what the folder was made for decides.
bool is_sequence_classifier(const ClassifierSource& source) {
  if (std::filesystem::exists(path_in(source.folder.folder, kClassifierConfig))) return false;
  const auto architectures = source.config.find("architectures");
  if (!architectures || architectures->is_null()) return true;
  const auto names = architectures->as_list<std::string>();
  return std::any_of(names.begin(), names.end(),
                     [](const std::string& name) { return name.ends_with("ForSequenceClassification"); });
}

bool are_given(const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] != fmt::format("LABEL_{}", i)) return true;
  return false;
}

// Rows of a trained head stand for the folder's classes.
void check_classes(const ClassifierSource& source) {
  const std::string& folder = source.folder.folder;
  const auto there = read_classifier_folder(folder, {}).class_names;
  const auto& here = source.class_names;
  std::string difference;
  if (there.size() != here.size())
    difference = fmt::format("it has {} classes, this run {}", there.size(), here.size());
  for (std::size_t i = 0; difference.empty() && are_given(there) && i < here.size(); ++i)
    if (there[i] != here[i])
      difference = fmt::format("class {} is '{}' there and '{}' here", i, core::printable(there[i]),
                               core::printable(here[i]));
  if (!difference.empty())
    throw core::DataError(
        fmt::format("{} is trained for other classes: {}; train on with the same classes, or start from an "
                    "encoder without a head",
                    folder, difference));
}

/// Loads what the folder has; parameters that it lacks are left undefined.
class SourceLoader {
 public:
  SourceLoader(const ClassifierSource& source, TrainingModel& model)
      : source_(source), model_(model), checkpoint_(open_checkpoint(source.transformer_path())) {}

  void load() {
    WeightRules rules = source_.folder.weights;
    std::vector<WeightPart> parts{{&model_.encoder()}};
    const bool classifies = is_sequence_classifier(source_);
    for (const HeadPart& part : model_.head().parts()) {
      const bool is_there = part.weights == StepWeights::kEncoder ||
                            (part.weights == StepWeights::kBesideEncoder && classifies);
      if (!is_there || !has_layer(checkpoint_, rules, part.name, part.naming())) continue;
      if (part.weights == StepWeights::kBesideEncoder) check_classes(source_);
      claim(rules, part.name);
      parts.push_back({part.layer.get(), part.naming()});
    }
    load_weights(parts, checkpoint_, rules, source_.transformer_path() + "/config.json");
    if (has_own_head(source_)) load_own_head();
  }

 private:
  void load_own_head() {
    check_classes(source_);
    own_head_ = formats::Safetensors::open(source_.folder.folder, kClassifierStem);
    const WeightPart part{model_.head().parts().back().layer.get(), Naming::kAsIs};
    load_weights({&part, 1}, *own_head_, {}, path_in(source_.folder.folder, kClassifierConfig));
  }

  const ClassifierSource& source_;
  TrainingModel& model_;
  // Mapped for as long as parameters point at them.
  formats::Safetensors checkpoint_;
  std::optional<formats::Safetensors> own_head_;
};

/// Random numbers of a parameter, by seed and name.
class Draws {
 public:
  Draws(std::uint64_t seed, const std::string& name)
      : philox_(seed, std::stoull(core::sha256_hex(name).substr(0, 16), nullptr, 16)) {}

  float uniform(double limit) { return static_cast<float>(limit * (2.0 * unit() - 1.0)); }
  // Box and Muller (1958): a normal number of two uniform ones.
  float normal(double deviation) {
    const double radius = std::sqrt(-2 * std::log(1.0 - unit()));
    return static_cast<float>(deviation * radius * std::cos(2 * std::numbers::pi * unit()));
  }

 private:
  double unit() { return static_cast<double>(philox_.next_u32()) * 0x1p-32; }

  core::Philox philox_;
};

class NewHead {
 public:
  NewHead(const ClassifierSource& source, const NewWeights& rules, const TrainingModel& model)
      : rules_(rules), model_(model), deviation_(source.config.get_or<double>("initializer_range", 0.02)) {}

  at::Tensor make(const TrainingParameter& entry) const {
    if (entry.name == "class_embeddings.weight") return embed_class_names();
    at::Tensor value = at::zeros(entry.parameter->sizes(), c10::ScalarType::Float);
    if (value.dim() < 2) return value;
    Draws draws(rules_.seed, entry.name);
    const double limit = 1 / std::sqrt(static_cast<double>(value.size(1)));
    auto* out = value.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < value.numel(); ++i)
      out[i] = entry.name == "bilinear.weight" ? draws.uniform(limit) : draws.normal(deviation_);
    return value;
  }

 private:
  // [classes, hidden]; the encoder's weights are in place.
  at::Tensor embed_class_names() const {
    const auto& names = rules_.class_tokens;
    std::vector<at::Tensor> rows;
    for (std::size_t first = 0; first < names.size(); first += kClassesAtOnce)
      embed_names(names.subspan(first, std::min(kClassesAtOnce, names.size() - first)), rows);
    return at::stack(rows);
  }

  void embed_names(std::span<const std::vector<std::uint32_t>> names, std::vector<at::Tensor>& rows) const {
    std::vector<std::uint32_t> ids, lengths;
    for (const auto& name : names) {
      ids.insert(ids.end(), name.begin(), name.end());
      lengths.push_back(static_cast<std::uint32_t>(name.size()));
    }
    const std::vector<std::uint64_t> items(names.size());
    const TransformerFacts& facts = model_.encoder().facts();
    const PackedTexts texts{ids, lengths};
    check_texts(texts, facts);
    const c10::AutoGradMode no_graph(false);
    const at::Tensor hidden =
        model_.encoder().forward_training(make_training_batch({texts, items, {}}, facts.positions, {}), {});
    std::int64_t row = 0;
    for (const std::int64_t length : lengths) {
      const bool has_words = length > static_cast<std::int64_t>(kSpecialTokens);
      const at::Tensor words =
          has_words ? hidden.narrow(0, row + 1, length - static_cast<std::int64_t>(kSpecialTokens))
                    : hidden.narrow(0, row, length);
      rows.push_back(words.mean(0));
      row += length;
    }
  }

  const NewWeights& rules_;
  const TrainingModel& model_;
  double deviation_;
};

}  // namespace

std::vector<at::Tensor> load_classifier_weights(const ClassifierSource& source, const NewWeights& rules,
                                                TrainingModel& model) {
  core::internal_check(
      source.head.kind != HeadKind::kBilinear || rules.class_tokens.size() == source.class_names.size(),
      "every class has the tokens of its name");
  SourceLoader loader(source, model);
  loader.load();
  std::vector<at::Tensor> weights;
  std::vector<std::string> fresh;
  const NewHead head(source, rules, model);
  for (const TrainingParameter& entry : model.parameters()) {
    at::Tensor& value = entry.parameter->value;
    if (value.defined()) {
      value = value.to(c10::ScalarType::Float, /*non_blocking=*/false, /*copy=*/true);
    } else {
      value = head.make(entry);
      fresh.push_back(entry.name);
    }
    weights.push_back(value);
  }
  if (!fresh.empty())
    core::log::info("{} has no {}: they start anew, with seed {}", source.folder.folder,
                    core::join(fresh, ", "), rules.seed);
  return weights;
}

}  // namespace muster::models
