// SPDX-License-Identifier: Apache-2.0
#include "phases/teleclass/zero_shot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>

#include "muster/core/error.h"
#include "phases/infer/label_decoder.h"
#include "phases/infer/submission.h"
#include "phases/teleclass/embedding_stage.h"
#include "phases/teleclass/similarity.h"

namespace muster::phases {
namespace {

constexpr std::int32_t kNoLabel = -1;
constexpr std::uint64_t kIdsAtATime = 65536;
/// The keys of `infer` that a submission of cosines has.
constexpr const char* kInferKeys[] = {"infer.top_k",      "infer.ancestors", "infer.min_labels",
                                      "infer.max_labels", "output.header",   "output.label_style",
                                      "output.separator"};

InferOptions options_of(const config::Config& config) {
  std::map<std::string, config::Value> values;
  for (const char* key : kInferKeys) values[key] = config.value(key);
  values["taxonomy.classes"] = config.value("taxonomy.classes");
  values["taxonomy.hierarchy"] = config.value("taxonomy.hierarchy");
  values["infer.activation"] = {.text = "none", .list = {}};
  return read_infer_options(config::Config(infer_schema(), values), "");
}

/// The ids of the test documents as the corpus has them, in order.
class TestIds {
 public:
  TestIds(const std::string& path, std::uint64_t rows) : reader_(path), rows_(rows) {}
  std::optional<std::string> next() {
    const std::string_view prefix = kTestPrefix;
    for (;;) {
      if (at_ == block_.size()) {
        if (read_ == rows_) return std::nullopt;
        const std::uint64_t count = std::min(kIdsAtATime, rows_ - read_);
        block_ = reader_.read_strings("/ids", read_, count);
        read_ += count;
        at_ = 0;
      }
      const auto& id = block_[at_++];
      if (id.starts_with(prefix)) return id.substr(prefix.size());
    }
  }

 private:
  io::H5Reader reader_;
  std::uint64_t rows_, read_ = 0;
  std::vector<std::string> block_;
  std::size_t at_ = 0;
};

class ZeroShotPhase : public EmbeddingStage {
 public:
  explicit ZeroShotPhase(const PhaseContext& context)
      : EmbeddingStage(context), options_(options_of(config_)), decoder_(options_.decode, space_.hierarchy) {
    check_submission(options_.submission, space_.names);
  }

  std::uint64_t steps_total() const override { return 1; }

  void step() override {
    std::vector<std::size_t> places(rows_.count());  // of test documents among the rank's
    for (std::size_t local = 0; local < places.size(); ++local)
      if (is_test(local)) places[local] = mine_++;
    predictions_.resize(mine_);
    const bool keep_all = options_.submission.style == LabelStyle::kProbabilities;
    if (keep_all) cosines_.resize(mine_ * classes());
    for_each_score_block(rows_, initial_, *team_, [&](const ScoreBlock& block) {
      for (std::size_t i = 0; i < block.count; ++i) {
        const std::size_t local = block.first + i;
        if (!is_test(local)) continue;
        predictions_[places[local]] = decoder_.decode(block.of(i));
        if (keep_all)
          std::copy_n(block.of(i).begin(), classes(),
                      cosines_.begin() + static_cast<std::ptrdiff_t>(places[local] * classes()));
      }
    });
    ++steps_;
  }

  std::vector<std::string> publish() override {
    auto& world = context_->world;
    const auto counts = world.all_gather_value<std::uint64_t>(mine_);
    const auto begin = counts.begin();
    const auto first = std::accumulate(begin, begin + world.rank(), std::uint64_t{0});
    const auto rows = std::accumulate(begin, counts.end(), std::uint64_t{0});
    const auto predictions = context_->run.file("predictions.h5");
    write_predictions(predictions, first, rows);
    comm::collectively(world, [&] {
      if (!world.is_root()) return;
      TestIds ids(documents_path_, document_count_);
      IdDigester digest;
      while (const auto id = ids.next()) digest.add(*id);
      write_submission({.predictions = predictions,
                        .path = context_->run.file("submission.csv"),
                        .options = options_.submission,
                        .class_names = space_.names,
                        .ids = digest.finish(),
                        .step = context_->begins});
    });
    rows_written_ = rows;
    return {"submission.csv", "predictions.h5"};
  }

  std::string summary() const override {
    return fmt::format("{} test documents with their nearest classes", rows_written_);
  }

 private:
  void write_predictions(const std::string& path, std::uint64_t first, std::uint64_t rows) {
    std::uint64_t most = 1;
    for (const auto& prediction : predictions_)
      most = std::max<std::uint64_t>(most, prediction.labels.size());
    most = context_->world.all_reduce_value(most, comm::Op::kMax);
    std::vector<std::int32_t> labels(mine_ * most, kNoLabel), numbers(mine_);
    std::vector<float> scores(mine_ * most);
    for (std::size_t row = 0; row < mine_; ++row) {
      const auto& prediction = predictions_[row];
      numbers[row] = static_cast<std::int32_t>(prediction.labels.size());
      const auto at = static_cast<std::ptrdiff_t>(row * most);
      std::copy(prediction.labels.begin(), prediction.labels.end(), labels.begin() + at);
      std::copy(prediction.scores.begin(), prediction.scores.end(), scores.begin() + at);
    }
    std::vector<io::H5Dataset> datasets{{"/labels", io::H5Type::kI32, rows, most},
                                        {"/n_labels", io::H5Type::kI32, rows, 0},
                                        {"/scores", io::H5Type::kF32, rows, most}};
    std::vector<std::span<const std::byte>> columns{std::as_bytes(std::span(labels)),
                                                    std::as_bytes(std::span(numbers)),
                                                    std::as_bytes(std::span(scores))};
    if (options_.submission.style == LabelStyle::kProbabilities) {
      datasets.push_back({"/probabilities", io::H5Type::kF32, rows, classes()});
      columns.push_back(std::as_bytes(std::span(cosines_)));
    }
    std::optional<TestIds> ids;
    if (context_->world.is_root()) ids.emplace(documents_path_, document_count_);
    io::write_h5({.path = path,
                  .datasets = std::move(datasets),
                  .attributes = {{"classes", static_cast<std::int64_t>(classes())}, {"score", "cosine"}},
                  .next_id = [&] { return ids->next().value_or(""); },
                  .ids_rows = rows,
                  .failure_claim = context_->run.run_file("cause")},
                 context_->world, [&](io::H5RowWriter& writer) {
                   if (mine_ > 0) writer.write(first, mine_, columns);
                 });
  }

  InferOptions options_;
  LabelDecoder decoder_;
  std::vector<Prediction> predictions_;  ///< of the rank's test documents
  std::vector<float> cosines_;           ///< theirs to all classes, where the submission holds them
  std::uint64_t mine_ = 0, rows_written_ = 0;
};

}  // namespace

PhaseInfo zero_shot_phase() {
  PhaseInfo info;
  info.name = "zero_shot";
  info.item = "documents";
  info.unit = "documents";
  info.schema = embedding_stage_schema();
  const auto infer = infer_schema();
  for (const char* key : kInferKeys) info.schema.add(*infer.find(key));
  info.create_step = [](const PhaseContext& context) { return std::make_unique<ZeroShotPhase>(context); };
  return info;
}

}  // namespace muster::phases
