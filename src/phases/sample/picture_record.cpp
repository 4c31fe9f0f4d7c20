// SPDX-License-Identifier: Apache-2.0
#include "phases/sample/picture_record.h"

#include <cstring>

#include "muster/core/digest.h"

namespace muster::phases {
namespace {

// In front of every picture's payload; the last digit is the layout's version.
constexpr std::uint64_t kMagic = 0x4d55535450494331;

class Writer {
 public:
  template <class T>
  void number(const T& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  template <class T>
  void list(const T& values) {
    number(static_cast<std::uint64_t>(values.size()));
    const auto bytes = std::as_bytes(std::span(values));
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  std::vector<std::byte> take() { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}
  template <class T>
  void number(T& value) {
    if (rest_.size() < sizeof value) return fail();
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_ = rest_.subspan(sizeof value);
  }
  template <class T>
  void list(T& values) {
    std::uint64_t count = 0;
    number(count);
    if (count > rest_.size() / sizeof(typename T::value_type)) return fail();
    values.resize(count);
    const std::size_t bytes = count * sizeof(typename T::value_type);
    if (bytes > 0) std::memcpy(values.data(), rest_.data(), bytes);
    rest_ = rest_.subspan(bytes);
  }
  bool whole() const { return !failed_ && rest_.empty(); }
  bool failed() const { return failed_; }

 private:
  void fail() {
    failed_ = true;
    rest_ = {};
  }
  std::span<const std::byte> rest_;
  bool failed_ = false;
};

}  // namespace

std::vector<std::byte> pack(const PictureRecord& record) {
  Writer writer;
  writer.number(kMagic);
  const auto& facts = record.facts;
  writer.number(facts.digest);
  writer.number(facts.seed);
  writer.number(facts.row);
  for (const auto value : {facts.copy, facts.rank, facts.width, facts.height, facts.tokens})
    writer.number(value);
  writer.number(facts.truncated);
  writer.number(facts.decoded_again);
  writer.list(record.prompt);
  writer.number(record.latent_shape);
  writer.list(record.latents);
  writer.number(static_cast<std::uint64_t>(record.texts.size()));
  for (const auto& [keyword, text] : record.texts) {
    writer.list(keyword);
    writer.list(text);
  }
  writer.list(record.rgb);
  return writer.take();
}

std::optional<PictureRecord> unpack_picture(std::span<const std::byte> payload) {
  Reader reader(payload);
  PictureRecord record;
  std::uint64_t magic = 0;
  reader.number(magic);
  if (magic != kMagic) return std::nullopt;
  auto& facts = record.facts;
  reader.number(facts.digest);
  reader.number(facts.seed);
  reader.number(facts.row);
  for (auto* value : {&facts.copy, &facts.rank, &facts.width, &facts.height, &facts.tokens})
    reader.number(*value);
  reader.number(facts.truncated);
  reader.number(facts.decoded_again);
  reader.list(record.prompt);
  reader.number(record.latent_shape);
  reader.list(record.latents);
  std::uint64_t texts = 0;
  reader.number(texts);
  for (std::uint64_t i = 0; i < texts && !reader.failed(); ++i) {
    auto& [keyword, text] = record.texts.emplace_back();
    reader.list(keyword);
    reader.list(text);
  }
  reader.list(record.rgb);
  if (!reader.whole()) return std::nullopt;
  return record;
}

std::vector<std::byte> encode_picture(PictureRecord& record) {
  const formats::Image image{.width = record.facts.width,
                             .height = record.facts.height,
                             .channels = 3,
                             .pixels = std::move(record.rgb)};
  auto bytes = formats::encode_png(image, record.texts);
  core::Sha256 digest;
  digest.update(bytes);
  record.facts.digest = digest.finish();
  record.rgb.clear();
  record.texts.clear();
  return bytes;
}

}  // namespace muster::phases
