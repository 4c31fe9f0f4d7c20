// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/safetensors_writer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "muster/core/checked.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"

namespace muster::formats {
namespace {

constexpr std::size_t kAlignment = 8;
constexpr std::size_t kMaxHeaderBytes = 100'000'000;

std::uint64_t bytes_of(const TensorSpec& tensor) {
  std::optional<std::uint64_t> bytes = dtype_bytes(tensor.dtype);
  for (const auto dimension : tensor.shape) {
    if (bytes) bytes = core::checked_mul(*bytes, dimension);
  }
  core::internal_check(bytes.has_value(), fmt::format("tensor '{}' has a size beyond 64 bits", tensor.name));
  return *bytes;
}

void check_names(const std::vector<TensorSpec>& tensors) {
  std::set<std::string_view> seen;
  for (const auto& tensor : tensors) {
    core::internal_check(tensor.name != "__metadata__" && seen.insert(tensor.name).second,
                         fmt::format("no file can hold a tensor '{}', or two of them", tensor.name));
  }
}

void sort_as_the_library_does(std::vector<TensorSpec>& tensors) {
  std::ranges::sort(tensors, [](const TensorSpec& a, const TensorSpec& b) {
    const auto wide_a = dtype_bytes(a.dtype), wide_b = dtype_bytes(b.dtype);
    return wide_a != wide_b ? wide_a > wide_b : a.name < b.name;
  });
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(Config config)
    : path_(std::move(config.path)), tensors_(std::move(config.tensors)) {
  check_names(tensors_);
  if (config.order == TensorOrder::kSorted) sort_as_the_library_does(tensors_);
  begins_.push_back(0);
  for (const auto& tensor : tensors_) {
    const auto end = core::checked_add(begins_.back(), bytes_of(tensor));
    core::internal_check(end.has_value(), "a file's size is beyond 64 bits");
    begins_.push_back(*end);
  }
  const std::string text = header(config.metadata);
  file_ = core::create_for_writing(path_);
  core::write_all(file_.get(), text, path_);
}

/// Eight bytes of length, the JSON text, spaces up to the alignment.
std::string SafetensorsWriter::header(const std::map<std::string, std::string>& metadata) const {
  std::vector<std::string> members;
  if (!metadata.empty()) {
    std::vector<std::string> texts;
    for (const auto& [key, value] : metadata)
      texts.push_back(core::json_quote(key) + ":" + core::json_quote(value));
    members.push_back(fmt::format("\"__metadata__\":{{{}}}", fmt::join(texts, ",")));
  }
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    members.push_back(fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                                  core::json_quote(tensors_[i].name), dtype_name(tensors_[i].dtype),
                                  fmt::join(tensors_[i].shape, ","), begins_[i], begins_[i + 1]));
  }
  std::string json = fmt::format("{{{}}}", fmt::join(members, ","));
  json.resize(core::ceil_div(json.size(), kAlignment) * kAlignment, ' ');
  core::internal_check(json.size() <= kMaxHeaderBytes,
                       fmt::format("the header of {} would be longer than the format allows", path_));
  const std::uint64_t length = json.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + json;
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  core::internal_check(bytes.size() <= begins_.back() - written_,
                       fmt::format("{} gets more bytes than its header says", path_));
  core::write_all(file_.get(), bytes, path_);
  written_ += bytes.size();
}

void SafetensorsWriter::write(const std::string& name, std::span<const std::byte> bytes) {
  const auto found = std::ranges::find(tensors_, name, &TensorSpec::name);
  const auto place = static_cast<std::size_t>(found - tensors_.begin());
  core::internal_check(found != tensors_.end() && begins_[place] == written_ &&
                           begins_[place + 1] - begins_[place] == bytes.size(),
                       fmt::format("'{}' is not what comes next in {}, or has another size", name, path_));
  write(bytes);
}

void SafetensorsWriter::finish() {
  core::internal_check(written_ == begins_.back(),
                       fmt::format("{} lacks {} bytes", path_, begins_.back() - written_));
  core::sync(file_.get(), path_);
  if (file_.close() != 0) throw core::OutputError(fmt::format("cannot close {}", path_));
}

}  // namespace muster::formats
