// SPDX-License-Identifier: Apache-2.0
#include "phases/teleclass/score.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <unordered_set>

#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "muster/taxonomy/decode.h"
#include "phases/infer/label_decoder.h"
#include "phases/labels/label_file.h"
#include "phases/teleclass/embedding_stage.h"
#include "phases/teleclass/score_card_files.h"
#include "phases/teleclass/similarity.h"
#include "phases/train/options.h"

namespace muster::phases {
namespace {

using taxonomy::ClassId;

constexpr std::uint64_t kBlockValues = std::uint64_t{1} << 20;
constexpr std::size_t kConfusionsKept = 1000;

/// Columns of a predictions.h5, some rows at a time.
struct PredictionRows {
  std::vector<std::string> ids;
  std::vector<std::int32_t> labels, numbers;
  std::vector<float> logits;  ///< empty when the file has none
  std::size_t width = 0;
  std::span<const ClassId> labels_of(std::size_t row) const {
    return std::span(labels).subspan(row * width, static_cast<std::size_t>(numbers[row]));
  }
};

class PredictionReader {
 public:
  explicit PredictionReader(const std::string& path) : reader_(path) {
    const auto attributes = reader_.attributes();
    classes_ = static_cast<std::size_t>(std::get<std::int64_t>(attributes.at("classes")));
    const auto shape = reader_.shape("/labels");
    rows_ = shape.at(0);
    width_ = shape.at(1);
    try {
      has_logits_ = reader_.shape("/logits").size() == 2;
    } catch (const core::DataError&) {
      has_logits_ = false;
    }
  }
  std::uint64_t rows() const { return rows_; }
  std::size_t classes() const { return classes_; }
  std::uint64_t block() const {
    return std::max<std::uint64_t>(kBlockValues / std::max<std::uint64_t>(classes_, width_), 1);
  }
  PredictionRows read(std::uint64_t first, std::uint64_t count) const {
    PredictionRows rows{.ids = reader_.read_strings("/ids", first, count),
                        .labels = reader_.read_i32("/labels", first, count),
                        .numbers = reader_.read_i32("/n_labels", first, count),
                        .logits = {},
                        .width = width_};
    if (has_logits_) rows.logits = reader_.read_rows("/logits", first, count);
    return rows;
  }

 private:
  io::H5Reader reader_;
  std::uint64_t rows_ = 0, width_ = 0;
  std::size_t classes_ = 0;
  bool has_logits_ = false;
};

enum Method : std::size_t { kClassifier, kZeroShot, kZeroShotGap, kRounds, kMethods };

std::string lines_of(const taxonomy::Confusions& confusions) {
  std::string text;
  for (const auto& [missed, instead, documents] : confusions.worst())
    text += fmt::format("{} {} {}\n", missed, instead, documents);
  return text;
}

void add_lines(const std::string& text, taxonomy::Confusions& confusions) {
  for (const auto& line : core::split(text, '\n')) {
    const auto words = core::split(line, ' ');
    if (words.size() == 3)
      confusions.add({.missed = std::stoi(words[0]),
                      .instead = std::stoi(words[1]),
                      .documents = std::stoull(words[2])});
  }
}

class ScorePhase : public EmbeddingStage {
 public:
  explicit ScorePhase(const PhaseContext& context)
      : EmbeddingStage(context),
        rule_(gap_rule_of(config_)),
        decoder_(
            {.function = ScoreFunction::kNone,
             .top_k = static_cast<std::size_t>(config_.integer("infer.top_k")),
             .closure = config_.boolean("infer.ancestors") ? LabelClosure::kAncestors : LabelClosure::kNo},
            space_.hierarchy),
        methods_{{"classifier", "the trained classifier, as in submission.csv", card()},
                 {"zero_shot", "the nearest class texts, as in zero_shot/submission.csv", card()},
                 {"zero_shot_gap", "the nearest class texts by the gap rule, with ancestors", card()},
                 {"rounds", "the pseudo-labels of the last round, with ancestors", card()}} {}

  std::uint64_t steps_total() const override { return 1; }

  void start(StepContext& context) override {
    EmbeddingStage::start(context);
    context.begins("reading gold labels");
    comm::collectively(context.world, [&] {
      gold_ = read_labels(config_.string("score.gold"), space_.names);
      vectors_ = read_class_vectors(config_.string("score.vectors"));
      if (vectors_.last.classes != classes() || vectors_.last.dimensions != rows_.dimensions)
        throw core::DataError(fmt::format("{} does not belong to these classes and embeddings",
                                          config_.string("score.vectors")));
      by_id_ = rows_by_id(gold_);
    });
  }

  void step() override {
    comm::collectively(context_->world, [&] {
      judge_predictions();
      judge_cosines(vectors_.initial, Cosines::kClassTexts);
      judge_cosines(vectors_.last, Cosines::kLastRound);
      if (context_->world.is_root()) judge_missing();
    });
    context_->waits("the sums of the other ranks");
    for (auto& method : methods_) context_->world.all_reduce(comm::Buffer(method.card.sums()));
    const auto confused = context_->world.gather_strings(lines_of(confusions_));
    confusions_ = {};
    for (const auto& lines : confused) add_lines(lines, confusions_);
    ++steps_;
  }

  std::vector<std::string> publish() override {
    for (const auto& [name, value] : metrics_of(methods_[kClassifier].card))
      context_->facts[name] = fmt::format("{:.6f}", value);
    comm::collectively(context_->world, [&] {
      if (!context_->world.is_root()) return;
      if (methods_[kClassifier].card.documents() == 0)
        core::log::warning("no document of {} has gold labels in {}: all scores are 0",
                           config_.string("score.predictions"), config_.string("score.gold"));
      const auto write = [&](const char* name, const std::string& text) {
        core::publish_text(context_->run.file(name), text);
      };
      write("scores.json", scores_json(methods_));
      write("scores.csv", scores_csv(methods_));
      write("classes.csv", class_scores_csv(methods_, space_.names));
      write("confusions.csv", confusions_csv(confusions_.worst(kConfusionsKept), space_.names));
    });
    return {"scores.json", "scores.csv", "classes.csv", "confusions.csv"};
  }

  std::string summary() const override {
    std::string text;
    for (const auto& method : methods_) {
      const auto f1 = method.card.example_f1();
      text += fmt::format("{}{} {:.4f} +- {:.4f}", text.empty() ? "Example-F1: " : ", ", method.name,
                          f1.value, f1.standard_error);
    }
    return text;
  }

 protected:
  io::Identity upstream() const override {
    return {{"embeddings.documents.sha256", embeddings_digest(documents_path_)},
            {"vectors.sha256", core::sha256_file(config_.string("score.vectors"))},
            {"predictions.sha256", predictions_digest(config_.string("score.predictions"))},
            {"gold.sha256", core::sha256_file(config_.string("score.gold"))}};
  }

 private:
  enum class Cosines { kClassTexts, kLastRound };

  taxonomy::Scorecard card() const { return taxonomy::Scorecard(classes()); }

  const DocumentLabels* gold_of(std::string_view id) const {
    const auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : &gold_[found->second];
  }

  void judge_predictions() {
    const PredictionReader reader(config_.string("score.predictions"));
    if (reader.classes() != classes())
      throw core::DataError(fmt::format("{} is of {} classes, but there are {}",
                                        config_.string("score.predictions"), reader.classes(), classes()));
    const auto range = rows_of_rank(reader.rows(), context_->world.rank(), context_->world.size());
    for (std::uint64_t row = 0; row < range.count; row += reader.block()) {
      const std::uint64_t count = std::min(reader.block(), range.count - row);
      const auto rows = reader.read(range.first + row, count);
      for (std::size_t i = 0; i < count; ++i) {
        const auto* gold = gold_of(rows.ids[i]);
        if (gold == nullptr) continue;
        const std::span<const float> logits = rows.logits.empty()
                                                  ? std::span<const float>()
                                                  : std::span(rows.logits).subspan(i * classes(), classes());
        methods_[kClassifier].card.add({gold->labels, rows.labels_of(i), logits});
        confusions_.add(gold->labels, rows.labels_of(i));
      }
    }
  }

  void judge_cosines(const ClassVectors& vectors, Cosines which) {
    const std::string_view prefix = kTestPrefix;
    struct Cards {
      taxonomy::Scorecard nearest, gap;
    };
    std::vector<Cards> cards(static_cast<std::size_t>(team_->size()), Cards{card(), card()});
    for_each_score_block(rows_, vectors, *team_, [&](const ScoreBlock& block) {
      auto& mine = cards[static_cast<std::size_t>(block.worker)];
      for (std::size_t i = 0; i < block.count; ++i) {
        const auto& id = ids_[block.first + i];
        const auto* gold =
            id.starts_with(prefix) ? gold_of(std::string_view(id).substr(prefix.size())) : nullptr;
        if (gold == nullptr) continue;
        const auto scores = block.of(i);
        if (which == Cosines::kClassTexts)
          mine.nearest.add({gold->labels, decoder_.decode(scores).labels, scores});
        mine.gap.add({gold->labels, with_ancestors(labels_by_gap(scores, rule_).labels), scores});
      }
    });
    for (const auto& mine : cards) {
      if (which == Cosines::kClassTexts) methods_[kZeroShot].card.merge(mine.nearest);
      methods_[which == Cosines::kClassTexts ? kZeroShotGap : kRounds].card.merge(mine.gap);
    }
  }

  // As the classifier is taught: the labels themselves, then what is above them.
  std::vector<ClassId> with_ancestors(std::vector<ClassId> labels) const {
    if (!config_.boolean("train.ancestors")) return labels;
    for (const ClassId id : space_.hierarchy.closure(labels))
      if (std::find(labels.begin(), labels.end(), id) == labels.end()) labels.push_back(id);
    return labels;
  }

  // A document without a result has no label at all, and counts.
  void judge_missing() {
    std::unordered_set<std::string> predicted, encoded;
    const PredictionReader reader(config_.string("score.predictions"));
    const io::H5Reader predictions(config_.string("score.predictions")), documents(documents_path_);
    for (auto& id : predictions.read_strings("/ids", 0, reader.rows())) predicted.insert(std::move(id));
    const std::string_view prefix = kTestPrefix;
    for (const auto& id : documents.read_strings("/ids", 0, document_count_))
      if (id.starts_with(prefix)) encoded.insert(id.substr(prefix.size()));
    for (const auto& gold : gold_) {
      if (!predicted.contains(gold.id)) methods_[kClassifier].card.add({gold.labels, {}, {}});
      if (encoded.contains(gold.id)) continue;
      for (const auto method : {kZeroShot, kZeroShotGap, kRounds})
        methods_[method].card.add({gold.labels, {}, {}});
    }
  }

  taxonomy::GapRule rule_;
  LabelDecoder decoder_;
  std::vector<ScoredMethod> methods_;  ///< by Method
  std::vector<DocumentLabels> gold_;
  std::unordered_map<std::string_view, std::size_t> by_id_;
  SavedVectors vectors_;
  taxonomy::Confusions confusions_;
};

}  // namespace

std::string predictions_digest(const std::string& path) {
  const PredictionReader reader(path);
  core::Sha256 sha;
  sha.update(fmt::format("{} {}\n", reader.rows(), reader.classes()));
  for (std::uint64_t first = 0; first < reader.rows(); first += reader.block()) {
    const auto rows = reader.read(first, std::min(reader.block(), reader.rows() - first));
    for (const auto& id : rows.ids) sha.update(fmt::format("{}:{}", id.size(), id));
    sha.update(std::as_bytes(std::span(rows.labels)));
    sha.update(std::as_bytes(std::span(rows.numbers)));
    sha.update(std::as_bytes(std::span(rows.logits)));
  }
  return sha.finish_hex();
}

PhaseInfo score_phase() {
  PhaseInfo info;
  info.name = "score";
  info.item = "documents";
  info.unit = "documents";
  info.schema = embedding_stage_schema();
  const auto file = [&](const char* name, const char* doc) {
    info.schema.add({.name = name, .doc = doc, .required = true, .value_name = "FILE"});
  };
  file("score.predictions", "predictions.h5 of the classifier");
  file("score.vectors", "class_vectors.safetensors of the stage labels");
  file("score.gold", "document id<TAB>class ids or names");
  const auto rules = similarity_rule_schema(), infer = infer_schema(), train = train_schema();
  for (const char* name : {"teleclass.gap_search", "teleclass.min_labels", "teleclass.max_labels"})
    info.schema.add(*rules.find(name));
  for (const char* name : {"infer.top_k", "infer.ancestors"}) info.schema.add(*infer.find(name));
  info.schema.add(*train.find("train.ancestors"));
  info.create_step = [](const PhaseContext& context) { return std::make_unique<ScorePhase>(context); };
  info.report = score_sections;
  return info;
}

}  // namespace muster::phases
