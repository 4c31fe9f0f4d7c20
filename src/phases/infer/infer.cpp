// SPDX-License-Identifier: Apache-2.0
#include "phases/infer/infer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/models/text_classifier.h"
#include "phases/infer/class_space.h"
#include "phases/infer/infer_options.h"
#include "phases/infer/prediction_charts.h"
#include "phases/infer/prediction_record.h"
#include "phases/infer/submission.h"
#include "phases/runner/publish_rows.h"
#include "phases/text_model/model_choice.h"
#include "phases/text_model/text_items.h"

namespace muster::phases {
namespace {

constexpr std::int32_t kNoLabel = -1;

class InferWorker : public ItemWorker {
 public:
  InferWorker(const models::TextEncoder& classifier, const LabelDecoder& decoder, const TextItems& items,
              Keep logits)
      : classifier_(classifier), decoder_(decoder), keep_logits_(logits), texts_(items.id_bytes(), 0) {
    models::prepare_compute_thread();
  }

  std::vector<formats::Record> run(std::span<const ItemView> batch) override {
    const std::size_t classes = decoder_.classes();
    logits_.resize(batch.size() * classes);
    classifier_.embed(texts_.pack(batch), logits_);
    std::vector<formats::Record> records;
    for (std::size_t i = 0; i < batch.size(); ++i)
      records.push_back(record(batch[i], std::span(logits_).subspan(i * classes, classes)));
    return records;
  }

  void release_memory() override {
    texts_.release_memory();
    logits_ = {};
    classifier_.release_memory();
  }

 private:
  formats::Record record(const ItemView& item, std::span<const float> logits) const {
    if (!std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }))
      return failure_record(item.row, "a logit is not finite (NaN or infinity)");
    const DocumentFacts facts{static_cast<std::int32_t>(item.length), item.truncated};
    return {
        .item = item.row,
        .kind = formats::RecordKind::kResult,
        .payload = PredictionRecord::pack(facts, decoder_.decode(logits),
                                          keep_logits_ == Keep::kYes ? logits : std::span<const float>())};
  }

  const models::TextEncoder& classifier_;
  const LabelDecoder& decoder_;
  Keep keep_logits_;
  TextBatch texts_;
  std::vector<float> logits_;
};

class InferPhase : public ItemPhase {
 public:
  explicit InferPhase(const PhaseContext& context)
      : choice_(choose_folder(context.config, context.device)),
        description_(models::describe_text_classifier(choice_.load.folder, choice_.load.overrides)),
        options_(read_infer_options(context.config, description_.problem_type)),
        items_(choice_.load.folder, description_.encoder),
        classes_(read_class_space(options_, description_)),
        decoder_(options_.decode, classes_.hierarchy),
        cut_(text_cut(context.config, flops())) {
    check_submission(options_.submission, classes_.names);
    if (options_.decode.min_labels > classes_.names.size())
      throw core::ConfigError(fmt::format("infer.min_labels is {}, but the model has {} classes",
                                          options_.decode.min_labels, classes_.names.size()));
  }

  io::Identity identity() const override {
    auto identity = model_digests(choice_.load.folder, models::text_classifier_files(choice_.load.folder));
    if (!options_.classes_path.empty()) identity["classes.sha256"] = core::sha256_file(options_.classes_path);
    if (!options_.hierarchy_path.empty())
      identity["hierarchy.sha256"] = core::sha256_file(options_.hierarchy_path);
    return identity;
  }

  void prepare(std::string_view text, PreparedItem& out) const override { items_.prepare(text, out); }

  plan::CutConfig cut() const override { return cut_; }

  Footprint footprint() const override {
    auto footprint = encoder_footprint(description_.encoder, choice_, cut_.batch_tokens);
    footprint.flops = flops();
    return footprint;
  }

  // Labels by a threshold are as many as they are; a few on average.
  std::uint64_t result_bytes() const override {
    constexpr std::size_t kFewLabels = 8;
    const auto& decode = options_.decode;
    const std::size_t labels = decode.rule == LabelRule::kTopK ? decode.top_k : kFewLabels;
    std::size_t bytes = PredictionRecord::bytes(shape(), std::min(labels, decode.max_labels));
    if (options_.probabilities == Keep::kYes) bytes += classes_.names.size() * sizeof(float);
    return bytes;
  }

  void load() override { classifier_ = models::load_text_classifier(choice_.load); }

  std::unique_ptr<ItemWorker> make_worker() override {
    core::internal_check(classifier_ != nullptr, "the model is not loaded");
    return std::make_unique<InferWorker>(*classifier_, decoder_, items_, whole_logits());
  }

  std::vector<std::string> publish(PublishContext& context) override {
    IdDigester ids;
    const auto next_id = context.next_id;
    context.next_id = [&] {
      const std::string id = next_id();
      ids.add(id);
      return id;
    };
    const std::string predictions = context.run.file("predictions.h5");
    publish_predictions(context, predictions);
    if (context.world.is_root()) {
      write_submission({.predictions = predictions,
                        .path = context.run.file("submission.csv"),
                        .options = options_.submission,
                        .class_names = classes_.names,
                        .ids = ids.finish(),
                        .step = context.step});
    }
    context.world.barrier();
    return {"submission.csv", "predictions.h5"};
  }

  std::vector<std::byte> published(const std::string& directory, std::uint64_t position) const override {
    const io::H5Reader reader(directory + "/predictions.h5");
    const auto count = static_cast<std::size_t>(reader.read_i32("/n_labels", position, 1).at(0));
    Prediction prediction{.labels = reader.read_i32("/labels", position, 1),
                          .scores = reader.read_rows("/scores", position, 1)};
    prediction.labels.resize(count);
    prediction.scores.resize(count);
    if (options_.decode.top_scores > 0) {
      prediction.top = reader.read_i32("/top_classes", position, 1);
      prediction.top_scores = reader.read_rows("/top_scores", position, 1);
    }
    std::vector<float> all;
    if (options_.logits == Keep::kYes) append(all, reader.read_rows("/logits", position, 1));
    if (options_.probabilities == Keep::kYes) append(all, reader.read_rows("/probabilities", position, 1));
    const DocumentFacts facts{reader.read_i32("/n_tokens", position, 1).at(0),
                              reader.read_u8("/truncated", position, 1).at(0) != 0};
    return PredictionRecord::pack(facts, prediction, all);
  }

  std::vector<std::byte> as_published(std::span<const std::byte> payload) const override {
    const PredictionRecord record(shape(), payload);
    std::vector<std::byte> out;
    append(out, record.before_logits());
    if (options_.logits == Keep::kYes) append(out, record.logits());
    if (options_.probabilities == Keep::kYes) {
      const auto probabilities = probabilities_of(record);
      append(out, std::as_bytes(std::span(probabilities)));
    }
    return out;
  }

 private:
  template <class T, class Values>
  static void append(std::vector<T>& out, const Values& values) {
    out.insert(out.end(), values.begin(), values.end());
  }

  Keep whole_logits() const { return options_.probabilities == Keep::kYes ? Keep::kYes : options_.logits; }

  PredictionRecord::Shape shape() const {
    return {.top = std::min(options_.decode.top_scores, classes_.names.size()),
            .logits = whole_logits() == Keep::kYes ? classes_.names.size() : 0};
  }

  // Of the encoder by tokens, and of the head by texts.
  plan::CostModel flops() const {
    const auto& encoder = description_.encoder;
    const double head = 2.0 * encoder.hidden * (encoder.hidden + encoder.dimensions);
    return {.per_item = head,
            .linear = encoder.linear_flops_per_token,
            .quadratic = encoder.attention_flops_per_token2};
  }

  std::vector<float> probabilities_of(const PredictionRecord& record) const {
    std::vector<float> logits(classes_.names.size()), scores(logits.size());
    std::memcpy(logits.data(), record.logits().data(), record.logits().size());
    decoder_.scores(logits, scores);
    return scores;
  }

  // Of the document with the most; every rank looks at the sizes of all records.
  std::size_t most_labels(const PublishContext& context) const {
    std::size_t most = 1;
    context.run.for_each_ref(context.journal, [&](const io::JournalEntry&, const formats::RecordRef& ref) {
      if (ref.kind == formats::RecordKind::kResult)
        most = std::max(most, PredictionRecord::labels_in(shape(), ref.payload_bytes));
    });
    return most;
  }

  /// A column filled from some bytes of each record.
  template <class Part>
  Column column(const char* name, io::H5Type type, std::size_t width, Part part) const {
    return {name, type, width, [this, part](auto payload, auto row) {
              const auto bytes = part(PredictionRecord(shape(), payload));
              std::memcpy(row.data(), bytes.data(), bytes.size());
            }};
  }

  std::vector<Column> columns(const PublishContext& context, std::uint64_t& truncated) const {
    using enum io::H5Type;
    using Record = PredictionRecord;
    const std::size_t most = most_labels(context), all = classes_.names.size();
    std::vector<Column> columns{
        {"/labels", kI32, most,
         [this](auto payload, auto row) {
           const auto labels = Record(shape(), payload).labels();
           std::memcpy(row.data(), labels.data(), labels.size());
           for (std::size_t at = labels.size(); at < row.size(); at += sizeof kNoLabel)
             std::memcpy(row.data() + at, &kNoLabel, sizeof kNoLabel);
         }},
        {"/n_labels", kI32, 0,
         [this](auto payload, auto row) {
           const auto count = static_cast<std::int32_t>(Record(shape(), payload).label_count());
           std::memcpy(row.data(), &count, sizeof count);
         }},
        {"/scores", kF32, most,
         [this](auto payload, auto row) {
           const auto scores = Record(shape(), payload).scores();
           std::memcpy(row.data(), scores.data(), scores.size());
           std::fill(row.begin() + static_cast<std::ptrdiff_t>(scores.size()), row.end(), std::byte{0});
         }},
        column("/n_tokens", kI32, 0, [](const Record& record) { return record.tokens(); }),
        {"/truncated", kU8, 0, [this, &truncated](auto payload, auto row) {
           const bool flag = Record(shape(), payload).truncated();
           row[0] = static_cast<std::byte>(flag);
           truncated += flag ? 1 : 0;
         }}};
    if (shape().top > 0) {
      columns.push_back(
          column("/top_classes", kI32, shape().top, [](const Record& record) { return record.top(); }));
      columns.push_back(
          column("/top_scores", kF32, shape().top, [](const Record& record) { return record.top_scores(); }));
    }
    if (options_.logits == Keep::kYes)
      columns.push_back(column("/logits", kF32, all, [](const Record& record) { return record.logits(); }));
    if (options_.probabilities == Keep::kYes) {
      columns.push_back({"/probabilities", kF32, all, [this](auto payload, auto row) {
                           const auto scores = probabilities_of(Record(shape(), payload));
                           std::memcpy(row.data(), scores.data(), row.size());
                         }});
    }
    return columns;
  }

  void publish_predictions(PublishContext& context, const std::string& path) {
    auto attributes = model_attributes(description_.encoder, choice_);
    attributes["head"] = description_.head;
    attributes["classes"] = static_cast<std::int64_t>(classes_.names.size());
    attributes["score"] = score_function_name(options_.decode.function);
    attributes.insert(context.attributes.begin(), context.attributes.end());
    if (context.world.is_root()) {
      for (const auto& [name, value] : identity()) attributes[attribute_name(name)] = value;
    }
    std::uint64_t truncated = 0;
    publish_rows(context, path, columns(context, truncated), attributes);
    context.facts["truncated"] = std::to_string(context.world.all_reduce_value(truncated, comm::Op::kSum));
  }

  ModelChoice choice_;
  models::ClassifierDescription description_;
  InferOptions options_;
  TextItems items_;
  ClassSpace classes_;
  LabelDecoder decoder_;
  plan::CutConfig cut_;
  std::unique_ptr<models::TextEncoder> classifier_;
};

}  // namespace

PhaseInfo infer_phase() {
  PhaseInfo info;
  info.name = "infer";
  info.item = "documents";
  info.unit = "tokens";
  info.schema = config::common_schema();
  info.schema.add(infer_schema());
  info.create = [](const PhaseContext& context) { return std::make_unique<InferPhase>(context); };
  info.report = prediction_charts;
  return info;
}

}  // namespace muster::phases
