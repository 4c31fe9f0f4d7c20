// SPDX-License-Identifier: Apache-2.0
#include "phases/encode/encode.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/half.h"
#include "muster/models/text_encoder.h"
#include "phases/encode/embedding_map.h"
#include "phases/runner/publish_rows.h"
#include "phases/text_model/model_choice.h"
#include "phases/text_model/text_items.h"

namespace muster::phases {
namespace {

// A record's payload: float32 [dimensions], int32 tokens, uint8 truncated.
struct RowLayout {
  std::size_t dimensions;
  std::size_t vector_bytes() const { return dimensions * sizeof(float); }
  std::size_t bytes() const { return vector_bytes() + sizeof(std::int32_t) + 1; }
};

class EncodeWorker : public ItemWorker {
 public:
  EncodeWorker(const models::TextEncoder& encoder, RowLayout layout, const TextItems& items)
      : encoder_(encoder), layout_(layout), texts_(items.id_bytes(), items.prompt_tokens()) {
    models::prepare_compute_thread();
  }

  std::vector<formats::Record> run(std::span<const ItemView> batch) override {
    vectors_.resize(batch.size() * layout_.dimensions);
    encoder_.embed(texts_.pack(batch), vectors_);
    std::vector<formats::Record> records;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      records.push_back(
          record(batch[i], std::span(vectors_).subspan(i * layout_.dimensions, layout_.dimensions)));
    }
    return records;
  }

  void release_memory() override {
    texts_.release_memory();
    vectors_ = {};
    encoder_.release_memory();
  }

 private:
  formats::Record record(const ItemView& item, std::span<const float> vector) const {
    if (!std::all_of(vector.begin(), vector.end(), [](float x) { return std::isfinite(x); })) {
      return failure_record(item.row, "the embedding has a value that is not finite (NaN or infinity)");
    }
    formats::Record record{.item = item.row, .kind = formats::RecordKind::kResult, .payload = {}};
    const auto tokens = static_cast<std::int32_t>(item.length);
    record.payload.resize(layout_.bytes());
    std::byte* out = record.payload.data();
    std::memcpy(out, vector.data(), layout_.vector_bytes());
    std::memcpy(out + layout_.vector_bytes(), &tokens, sizeof tokens);
    out[layout_.bytes() - 1] = static_cast<std::byte>(item.truncated);
    return record;
  }

  const models::TextEncoder& encoder_;
  RowLayout layout_;
  TextBatch texts_;
  std::vector<float> vectors_;
};

class EncodePhase : public ItemPhase {
 public:
  explicit EncodePhase(const PhaseContext& context)
      : choice_(choose_model(context.config, context.device)),
        description_(models::describe_text_encoder(choice_.load.folder, choice_.load.overrides)),
        items_(choice_.load.folder, description_, choose_prompt(context.config, description_)),
        cut_(text_cut(context.config, flops())),
        half_output_(context.config.string("output.dtype") == "fp16"),
        layout_{description_.dimensions} {}

  io::Identity identity() const override {
    return model_digests(choice_.load.folder, models::text_encoder_files(choice_.load.folder));
  }

  void prepare(std::string_view text, PreparedItem& out) const override { items_.prepare(text, out); }

  plan::CutConfig cut() const override { return cut_; }

  Footprint footprint() const override { return encoder_footprint(description_, choice_, cut_.batch_tokens); }

  std::uint64_t result_bytes() const override { return layout_.bytes(); }

  void load() override { encoder_ = models::load_text_encoder(choice_.load); }

  std::unique_ptr<ItemWorker> make_worker() override {
    core::internal_check(encoder_ != nullptr, "the model is not loaded");
    return std::make_unique<EncodeWorker>(*encoder_, layout_, items_);
  }

  std::vector<std::string> publish(PublishContext& context) override {
    std::uint64_t truncated = 0;
    const std::size_t flag = layout_.bytes() - 1;
    const std::vector<Column> columns{
        {"/embeddings", half_output_ ? io::H5Type::kF16 : io::H5Type::kF32, layout_.dimensions,
         [this](auto payload, auto row) { store_vector(payload, row); }},
        {"/n_tokens", io::H5Type::kI32, 0,
         [this](auto payload, auto row) {
           std::memcpy(row.data(), payload.data() + layout_.vector_bytes(), row.size());
         }},
        {"/truncated", io::H5Type::kU8, 0, [&](auto payload, auto row) {
           row[0] = payload[flag];
           truncated += static_cast<std::uint64_t>(payload[flag]);
         }}};
    auto attributes = model_attributes(description_, choice_);
    attributes.insert(context.attributes.begin(), context.attributes.end());
    if (context.world.is_root()) {
      for (const auto& [name, value] : identity()) attributes[attribute_name(name)] = value;
    }
    publish_rows(context, context.run.file("embeddings.h5"), columns, attributes);
    context.facts["truncated"] = std::to_string(context.world.all_reduce_value(truncated, comm::Op::kSum));
    return {"embeddings.h5"};
  }

  std::vector<std::byte> published(const std::string& directory, std::uint64_t position) const override {
    const io::H5Reader reader(directory + "/embeddings.h5");
    const auto vector = reader.read_rows("/embeddings", position, 1);
    const auto tokens = reader.read_i32("/n_tokens", position, 1);
    const auto truncated = reader.read_u8("/truncated", position, 1);
    std::vector<std::byte> payload(layout_.bytes());
    std::memcpy(payload.data(), vector.data(), layout_.vector_bytes());
    std::memcpy(payload.data() + layout_.vector_bytes(), tokens.data(), sizeof(std::int32_t));
    payload[layout_.bytes() - 1] = static_cast<std::byte>(truncated[0]);
    return payload;
  }

  std::vector<std::byte> as_published(std::span<const std::byte> payload) const override {
    std::vector<std::byte> out(payload.begin(), payload.end());
    if (!half_output_) return out;
    for (std::size_t i = 0; i < layout_.dimensions; ++i) {
      float value;
      std::memcpy(&value, payload.data() + i * sizeof value, sizeof value);
      value = core::half_to_float(core::float_to_half(value));
      std::memcpy(out.data() + i * sizeof value, &value, sizeof value);
    }
    return out;
  }

 private:
  plan::CostModel flops() const {
    return {.per_item = 0,
            .linear = description_.linear_flops_per_token,
            .quadratic = description_.attention_flops_per_token2};
  }

  void store_vector(std::span<const std::byte> payload, std::span<std::byte> row) const {
    if (!half_output_) {
      std::memcpy(row.data(), payload.data(), row.size());
      return;
    }
    for (std::size_t i = 0; i < layout_.dimensions; ++i) {
      float value;
      std::memcpy(&value, payload.data() + i * sizeof value, sizeof value);
      const std::uint16_t half = core::float_to_half(value);
      std::memcpy(row.data() + i * sizeof half, &half, sizeof half);
    }
  }

  ModelChoice choice_;
  models::EncoderDescription description_;
  TextItems items_;
  plan::CutConfig cut_;
  bool half_output_;
  RowLayout layout_;
  std::unique_ptr<models::TextEncoder> encoder_;
};

}  // namespace

PhaseInfo encode_phase() {
  PhaseInfo info;
  info.name = "encode";
  info.item = "documents";
  info.unit = "tokens";
  info.schema = config::common_schema();
  info.schema.add(encoder_schema());
  info.schema.add(embedding_map_schema());
  info.create = [](const PhaseContext& context) { return std::make_unique<EncodePhase>(context); };
  info.report = embedding_map;
  return info;
}

}  // namespace muster::phases
