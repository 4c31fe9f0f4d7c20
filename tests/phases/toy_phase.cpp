// SPDX-License-Identifier: Apache-2.0
// The smallest phase: a checksum of every text. It shows what a phase costs, and its texts ask for trouble by
// name.
// clang-format off: a line a thought keeps it on a screen
#include <cstring>
#include <new>
#include <stdexcept>
#include <thread>

#include "app/program.h"
#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "phases/runner/publish_rows.h"

namespace muster::phases {
namespace {

class ToyWorker : public ItemWorker {
 public:
  explicit ToyWorker(double milliseconds) : pause_(milliseconds) {}
  std::vector<formats::Record> run(std::span<const ItemView> batch) override {
    std::vector<formats::Record> records;
    for (const auto& item : batch) {
      const std::string_view text(reinterpret_cast<const char*>(item.payload.data()), item.payload.size());
      if (text == "bad item") throw core::DataError("this item is bad");
      if (text == "foreign error") throw std::runtime_error("not one of ours");
      if (text == "big item" && batch.size() > 2) throw std::bad_alloc();
      if (text == "endless item") throw core::ResourceError("no memory for this item", std::size_t{1} << 40);
      std::this_thread::sleep_for(pause_);
      const std::uint32_t sum = core::crc32c(text);
      formats::Record record{
          .item = item.row, .kind = formats::RecordKind::kResult, .payload = std::vector<std::byte>(4)};
      std::memcpy(record.payload.data(), &sum, 4);
      records.push_back(std::move(record));
    }
    return records;
  }

 private:
  std::chrono::duration<double, std::milli> pause_;
};
class ToyPhase : public ItemPhase {
 public:
  explicit ToyPhase(const PhaseContext& context)
      : pause_(context.config.number("toy.milliseconds")),
        batch_(static_cast<std::uint32_t>(context.config.integer("run.batch_size"))) {}
  void prepare(std::string_view text, PreparedItem& out) const override {
    const auto bytes = std::as_bytes(std::span(text));
    out = {.length = static_cast<std::uint32_t>(text.size() + 1),
           .truncated = false,
           .payload = {bytes.begin(), bytes.end()}};
  }
  plan::CutConfig cut() const override { return {.batch_tokens = 256, .batch_items = batch_, .tile = 1}; }
  std::uint64_t result_bytes() const override { return 4; }
  std::unique_ptr<ItemWorker> make_worker() override { return std::make_unique<ToyWorker>(pause_); }
  std::vector<std::string> publish(PublishContext& context) override {
    const auto copy = [](auto payload, auto row) { std::memcpy(row.data(), payload.data(), row.size()); };
    publish_rows(context, context.run.file("sums.h5"), {{"/sums", io::H5Type::kI32, 0, copy}},
                 context.attributes);
    return {"sums.h5"};
  }
  std::vector<std::byte> published(const std::string& directory, std::uint64_t position) const override {
    const auto value = io::H5Reader(directory + "/sums.h5").read_i32("/sums", position, 1);
    const auto bytes = std::as_bytes(std::span(value));
    return {bytes.begin(), bytes.end()};
  }

 private:
  double pause_;
  std::uint32_t batch_;
};

}  // namespace
}  // namespace muster::phases

int main(int argc, char** argv) {
  using namespace muster;
  phases::PhaseInfo toy{.name = "toy", .item = "texts", .unit = "bytes", .schema = config::common_schema()};
  toy.schema.add({.name = "toy.milliseconds",
                  .type = config::KeyType::kFloat,
                  .default_value = "0",
                  .doc = "pause an item",
                  .flags = {"--milliseconds"}});
  toy.create = [](const phases::PhaseContext& context) {
    return std::make_unique<phases::ToyPhase>(context);
  };
  return app::run_program(argc, argv, {toy});
}
