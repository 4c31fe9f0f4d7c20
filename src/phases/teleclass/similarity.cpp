// SPDX-License-Identifier: Apache-2.0
#include "phases/teleclass/similarity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <numeric>

#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "muster/formats/safetensors_writer.h"
#include "muster/taxonomy/decode.h"
#include "phases/labels/label_file.h"
#include "phases/teleclass/embedding_stage.h"
#include "phases/teleclass/similarity_report.h"

namespace muster::phases {
namespace {

using taxonomy::ClassId;

constexpr const char* kInitial = "initial";
constexpr const char* kLast = "last";

void write_vectors(const std::string& path, const ClassVectors& initial, const ClassVectors& last,
                   std::uint64_t rounds) {
  const std::vector<std::uint64_t> shape{initial.classes, initial.dimensions};
  const std::string temporary = path + ".tmp";
  formats::SafetensorsWriter writer(
      {.path = temporary,
       .tensors = {{.name = kInitial, .shape = shape}, {.name = kLast, .shape = shape}},
       .metadata = {{"rounds", std::to_string(rounds)}}});
  writer.write(kInitial, std::as_bytes(std::span(initial.values)));
  writer.write(kLast, std::as_bytes(std::span(last.values)));
  writer.finish();
  core::publish_file(temporary, path);
}

ClassVectors vectors_of(const formats::Safetensors& file, const char* name, const std::string& path) {
  const auto tensor = file.find(name);
  if (!tensor || tensor->shape.size() != 2 || tensor->dtype != formats::DType::kF32)
    throw core::DataError(fmt::format("{} has no tensor '{}' of class vectors", path, name));
  ClassVectors vectors{.classes = tensor->shape[0], .dimensions = tensor->shape[1], .values = {}};
  vectors.values.resize(vectors.classes * vectors.dimensions);
  std::memcpy(vectors.values.data(), tensor->bytes.data(), tensor->bytes.size());
  return vectors;
}

/// What the last step found for a document of this rank.
struct Found {
  GapLabels chosen;
  bool given = false;  ///< its labels are published
};

class SimilarityPhase : public EmbeddingStage {
 public:
  explicit SimilarityPhase(const PhaseContext& context)
      : EmbeddingStage(context),
        rule_(gap_rule_of(config_)),
        rounds_(static_cast<std::uint64_t>(config_.integer("teleclass.rounds"))),
        most_(static_cast<std::size_t>(config_.integer("teleclass.top_documents"))) {}

  /// The rounds, and the labels behind them.
  std::uint64_t steps_total() const override { return rounds_ + 1; }

  void start(StepContext& context) override {
    EmbeddingStage::start(context);
    vectors_ = initial_;
    comm::collectively(context.world, [&] {
      // The newest round that an earlier start saved.
      for (std::uint64_t round = rounds_; round > 0 && steps_ == 0; --round) {
        if (!std::filesystem::exists(state_file(round))) continue;
        vectors_ = read_class_vectors(state_file(round)).last;
        steps_ = round;
      }
    });
  }

  void step() override {
    const double begin = core::monotonic_seconds();
    if (steps_ < rounds_) {
      const auto best = best_documents(context_->world, rows_, vectors_, most_, *team_);
      context_->waits("the sums of the other ranks");
      move_to_means(context_->world, rows_, best, vectors_);
    } else {
      find_labels();
    }
    ++steps_;
    context_->metric("round", core::monotonic_seconds() - begin, "s", steps_);
  }

  void save() override {
    if (steps_ == 0 || steps_ > rounds_) return;
    comm::collectively(context_->world, [&] {
      if (context_->world.is_root()) write_vectors(state_file(steps_), initial_, vectors_, steps_);
    });
  }

  std::vector<std::string> publish() override {
    const auto lines = context_->world.gather_strings(label_rows());
    const auto core_counts = count_classes([](const GapLabels& found) { return found.labels; });
    const auto closed_counts =
        count_classes([&](const GapLabels& found) { return space_.hierarchy.closure(found.labels); });
    auto& facts = context_->facts;
    facts["labelled"] = std::to_string(labelled_);
    facts["dropped"] = std::to_string(dropped_);
    facts["unusable"] = std::to_string(unusable_);
    starved_ = taxonomy::starved_classes(core_counts,
                                         static_cast<std::uint64_t>(config_.integer("teleclass.starved")));
    facts["starved_classes"] = std::to_string(starved_.size());
    comm::collectively(context_->world, [&] {
      if (!context_->world.is_root()) return;
      core::publish_text(context_->run.file("pseudo_labels.tsv"), core::join(lines, ""));
      std::string starved, table = "id,documents,documents_with_ancestors,name\n";
      for (const ClassId id : starved_) {
        const auto at = static_cast<std::size_t>(id);
        starved += fmt::format("{}\t{}\t{}\n", id, space_.names[at], core_counts[at]);
      }
      for (std::size_t id = 0; id < classes(); ++id)
        table += fmt::format("{},{},{},{}\n", id, core_counts[id], closed_counts[id], space_.names[id]);
      core::publish_text(context_->run.file("starved_classes.tsv"), starved);
      core::publish_text(context_->run.file("classes.csv"), table);
      write_vectors(context_->run.file(kVectorsFile), initial_, vectors_, rounds_);
    });
    return {"pseudo_labels.tsv", "starved_classes.tsv", "classes.csv", kVectorsFile};
  }

  std::string summary() const override {
    return fmt::format("{} documents labelled, {} dropped, {} of {} classes starved", labelled_, dropped_,
                       starved_.size(), classes());
  }

 private:
  std::string state_file(std::uint64_t round) const {
    return context_->run.run_file(fmt::format("round_{}.safetensors", round));
  }

  bool may_be_given(std::size_t local) const {
    return rows_.usable[local] != 0 && (config_.string("teleclass.train_on") == "all" || !is_test(local));
  }

  void find_labels() {
    found_.assign(rows_.count(), {});
    for_each_score_block(rows_, vectors_, *team_, [&](const ScoreBlock& block) {
      for (std::size_t i = 0; i < block.count; ++i) {
        const std::size_t local = block.first + i;
        found_[local].given = may_be_given(local);
        if (found_[local].given) found_[local].chosen = labels_by_gap(block.of(i), rule_);
      }
    });
    drop_unsure();
    std::uint64_t labelled = 0;
    for (const auto& found : found_) labelled += found.given;
    labelled_ = context_->world.all_reduce_value(labelled, comm::Op::kSum);
  }

  // A rank's documents are judged by the confidences of all.
  void drop_unsure() {
    const double percent = config_.number("teleclass.confidence_percentile");
    std::vector<float> mine;
    for (const auto& found : found_)
      if (found.given) mine.push_back(found.chosen.gap);
    const auto counts = context_->world.all_gather_value<std::uint64_t>(mine.size());
    const auto total = std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
    if (percent <= 0 || total == 0) return;
    std::vector<float> all(context_->world.is_root() ? total : 0);
    context_->waits("the confidences of the other ranks");
    context_->world.gatherv(comm::ConstBuffer(mine), comm::Buffer(all), counts);
    const double least =
        context_->world.broadcast_value(context_->world.is_root() ? taxonomy::percentile(all, percent) : 0.0);
    std::uint64_t dropped = 0;
    for (auto& found : found_) {
      if (!found.given || static_cast<double>(found.chosen.gap) >= least) continue;
      found.given = false;
      ++dropped;
    }
    dropped_ = context_->world.all_reduce_value(dropped, comm::Op::kSum);
  }

  std::string label_rows() const {
    std::vector<DocumentLabels> rows;
    for (std::size_t local = 0; local < found_.size(); ++local)
      if (found_[local].given) rows.push_back({.id = ids_[local], .labels = found_[local].chosen.labels});
    return labels_text(rows);
  }

  template <class LabelsOf>
  std::vector<std::uint64_t> count_classes(LabelsOf labels_of) {
    std::vector<std::vector<ClassId>> labels;
    for (const auto& found : found_)
      if (found.given) labels.push_back(labels_of(found.chosen));
    auto counts = taxonomy::documents_per_class(labels, classes());
    context_->world.all_reduce(comm::Buffer(counts));
    return counts;
  }

  taxonomy::GapRule rule_;
  std::uint64_t rounds_;
  std::size_t most_;
  ClassVectors vectors_;  ///< of the present round
  std::vector<Found> found_;
  std::vector<ClassId> starved_;
  std::uint64_t labelled_ = 0, dropped_ = 0;
};

}  // namespace

taxonomy::GapRule gap_rule_of(const config::Config& config) {
  const auto count = [&](const char* key) { return static_cast<std::size_t>(config.integer(key)); };
  taxonomy::GapRule rule{.search = count("teleclass.gap_search"),
                         .at_least = count("teleclass.min_labels"),
                         .at_most = count("teleclass.max_labels")};
  if (rule.at_least > rule.at_most)
    throw core::ConfigError(fmt::format("teleclass.min_labels is {}, above teleclass.max_labels {}",
                                        rule.at_least, rule.at_most));
  return rule;
}

GapLabels labels_by_gap(std::span<const float> scores, const taxonomy::GapRule& rule) {
  // The gap behind the last class that may be chosen has two ends.
  const std::size_t looked_at = rule.search == 0 ? scores.size() : std::max(rule.search, rule.at_least) + 1;
  GapLabels found{.labels = taxonomy::top_k(scores, looked_at), .gap = 0};
  std::vector<float> best;
  for (const ClassId id : found.labels) best.push_back(scores[static_cast<std::size_t>(id)]);
  const auto choice = taxonomy::choose_by_gap(best, rule);
  found.labels.resize(choice.count);
  found.gap = choice.gap;
  return found;
}

SavedVectors read_class_vectors(const std::string& path) {
  const auto file = formats::Safetensors::open(path);
  return {.initial = vectors_of(file, kInitial, path), .last = vectors_of(file, kLast, path)};
}

config::Schema similarity_rule_schema() {
  using config::KeyType;
  constexpr auto kYes = config::AffectsResults::kYes;
  constexpr double kMost = 1 << 20;
  config::Schema schema;
  schema
      .add({.name = "teleclass.rounds",
            .type = KeyType::kInt,
            .default_value = "3",
            .doc = "times that class vectors move to the mean of their best documents",
            .flags = {"--rounds"},
            .affects = kYes,
            .minimum = 0,
            .maximum = kMost})
      .add({.name = "teleclass.top_documents",
            .type = KeyType::kInt,
            .default_value = "20",
            .doc = "so many of them",
            .flags = {"--top-documents"},
            .affects = kYes,
            .minimum = 1,
            .maximum = kMost})
      .add({.name = "teleclass.gap_search",
            .type = KeyType::kInt,
            .default_value = "5",
            .doc = "a document's labels end at the largest of so many first gaps; 0: of all",
            .flags = {"--gap-search"},
            .affects = kYes,
            .minimum = 0,
            .maximum = kMost})
      .add({.name = "teleclass.min_labels",
            .type = KeyType::kInt,
            .default_value = "2",
            .doc = "at least so many pseudo-labels a document",
            .affects = kYes,
            .minimum = 1,
            .maximum = kMost})
      .add({.name = "teleclass.max_labels",
            .type = KeyType::kInt,
            .default_value = "none",
            .doc = "at most so many",
            .affects = kYes,
            .none_allowed = true,
            .minimum = 1})
      .add({.name = "teleclass.starved",
            .type = KeyType::kInt,
            .default_value = "15",
            .doc = "classes of fewer documents are listed in starved_classes.tsv",
            .affects = kYes,
            .minimum = 0})
      .add({.name = "teleclass.confidence_percentile",
            .type = KeyType::kFloat,
            .default_value = "0",
            .doc = "documents below this percentile of the largest gap get no labels",
            .affects = kYes,
            .minimum = 0,
            .maximum = 100})
      .add({.name = "teleclass.train_on",
            .default_value = "all",
            .doc = "documents that get pseudo-labels; of test documents the texts alone",
            .flags = {"--train-on"},
            .affects = kYes,
            .choices = {"all", "train"}});
  return schema;
}

PhaseInfo similarity_phase() {
  PhaseInfo info;
  info.name = "similarity";
  info.item = "documents";
  info.unit = "documents";
  info.schema = embedding_stage_schema();
  info.schema.add(similarity_rule_schema());
  info.create_step = [](const PhaseContext& context) { return std::make_unique<SimilarityPhase>(context); };
  info.report = similarity_sections;
  return info;
}

}  // namespace muster::phases
