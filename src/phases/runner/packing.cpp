// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/packing.h"

#include <cstring>

#include "muster/core/error.h"

namespace muster::phases {
namespace {

template <class T>
void put(std::string& blob, T value) {
  blob.append(reinterpret_cast<const char*>(&value), sizeof value);
}

class Reader {
 public:
  explicit Reader(std::string_view blob) : rest_(blob) {}
  bool done() const { return rest_.empty(); }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, bytes(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view bytes(std::size_t count) {
    core::internal_check(count <= rest_.size(), "a packed message ends early");
    const auto out = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return out;
  }

 private:
  std::string_view rest_;
};

}  // namespace

void pack_text(std::string& blob, std::uint64_t row, std::string_view text) {
  put(blob, row);
  put(blob, static_cast<std::uint64_t>(text.size()));
  blob.append(text);
}

std::vector<TextView> unpack_texts(const std::string& blob) {
  std::vector<TextView> texts;
  for (Reader reader(blob); !reader.done();) {
    TextView text;
    text.row = reader.number<std::uint64_t>();
    text.text = reader.bytes(reader.number<std::uint64_t>());
    texts.push_back(text);
  }
  return texts;
}

void pack_item(std::string& blob, const ItemView& item) {
  put(blob, item.row);
  put(blob, item.length);
  put(blob, static_cast<std::uint32_t>(item.truncated));
  put(blob, static_cast<std::uint64_t>(item.payload.size()));
  blob.append(reinterpret_cast<const char*>(item.payload.data()), item.payload.size());
}

void pack_item(std::string& blob, std::uint64_t row, const PreparedItem& item) {
  pack_item(blob, ItemView{row, item.length, item.truncated, item.payload});
}

std::vector<ItemView> unpack_items(const std::string& blob) {
  std::vector<ItemView> items;
  for (Reader reader(blob); !reader.done();) {
    ItemView item;
    item.row = reader.number<std::uint64_t>();
    item.length = reader.number<std::uint32_t>();
    item.truncated = reader.number<std::uint32_t>() != 0;
    const auto payload = reader.bytes(reader.number<std::uint64_t>());
    item.payload = std::as_bytes(std::span(payload.data(), payload.size()));
    items.push_back(item);
  }
  return items;
}

void pack_batch(std::string& blob, std::uint64_t number, const std::string& items) {
  put(blob, number);
  put(blob, static_cast<std::uint64_t>(items.size()));
  blob.append(items);
}

std::vector<Batch> unpack_batches(const std::string& blob) {
  std::vector<Batch> batches;
  for (Reader reader(blob); !reader.done();) {
    Batch batch;
    batch.number = reader.number<std::uint64_t>();
    batch.blob = std::string(reader.bytes(reader.number<std::uint64_t>()));
    batches.push_back(std::move(batch));
  }
  // Views are taken once the strings have their final place: a short string moves its bytes along.
  for (auto& batch : batches) batch.items = unpack_items(batch.blob);
  return batches;
}

}  // namespace muster::phases
