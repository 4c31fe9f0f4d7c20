// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/safetensors.h"

#include <fmt/format.h>

#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "muster/formats/json.h"

namespace muster::formats {
namespace {

constexpr std::size_t kMaxIndexBytes = std::size_t{100} << 20;

/// Tensor name -> shard, from NAME.safetensors.index.json.
std::map<std::string, std::string> read_index(const std::string& path) {
  const JsonValue json = read_json(path, {.max_bytes = kMaxIndexBytes});
  std::map<std::string, std::string> shard_of;
  for (const auto& [name, value] : json.at("weight_map").members()) {
    const auto shard = value.view();
    // A plain name beside the index: neither a path out of the folder nor a special entry.
    if (shard.empty() || shard == "." || shard == ".." ||
        shard.find_first_of("/\\") != std::string_view::npos) {
      value.fail(fmt::format("names the file '{}'; shards lie beside their index", core::printable(shard)));
    }
    if (!shard.ends_with(".safetensors")) {
      value.fail(fmt::format("names the file '{}', which is not .safetensors", core::printable(shard)));
    }
    shard_of.emplace(name, shard);
  }
  if (shard_of.empty()) json.at("weight_map").fail("is empty");
  return shard_of;
}

}  // namespace

std::size_t Safetensors::add_file(const std::string& path) {
  files_.emplace_back(path);
  paths_.push_back(path);
  return files_.size() - 1;
}

void Safetensors::add_single(const std::string& path) {
  const std::size_t file = add_file(path);
  const auto header = parse_safetensors_header(files_[file].bytes(), path);
  for (const auto& [name, info] : header.tensors)
    entries_.emplace(name, Entry{file, info, header.data_offset});
}

void Safetensors::add_sharded(const std::string& index_path) {
  const auto shard_of = read_index(index_path);
  const auto folder = std::filesystem::path(index_path).parent_path();
  std::map<std::string, SafetensorsHeader> headers;
  std::map<std::string, std::size_t> numbers;
  for (const auto& [name, shard] : shard_of) {
    if (headers.contains(shard)) continue;
    const std::string path = (folder / shard).string();
    numbers[shard] = add_file(path);
    headers[shard] = parse_safetensors_header(files_.back().bytes(), path);
  }
  for (const auto& [name, shard] : shard_of) {
    const auto& header = headers.at(shard);
    const auto found = header.tensors.find(name);
    if (found == header.tensors.end()) {
      throw core::DataError(fmt::format(
          "{}: tensor '{}' shall be in {}, which does not hold it; are index and shards of one model?",
          index_path, core::printable(name), shard));
    }
    entries_.emplace(name, Entry{numbers.at(shard), found->second, header.data_offset});
  }
  for (const auto& [shard, header] : headers) {
    for (const auto& [name, info] : header.tensors) {
      const auto listed = shard_of.find(name);
      if (listed != shard_of.end() && listed->second == shard) continue;
      throw core::DataError(
          fmt::format("{}: {} holds tensor '{}', which the index {}; are index and shards of one model?",
                      index_path, shard, core::printable(name),
                      listed == shard_of.end() ? "does not list" : "places in " + listed->second));
    }
  }
}

Safetensors Safetensors::open(const std::string& path, const std::string& stem) {
  Safetensors out;
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    if (path.ends_with(".json")) {
      out.add_sharded(path);
    } else {
      out.add_single(path);
    }
    return out;
  }
  const std::string single = (std::filesystem::path(path) / (stem + ".safetensors")).string();
  const std::string index = single + ".index.json";
  if (std::filesystem::exists(single, error)) {
    out.add_single(single);
  } else if (std::filesystem::exists(index, error)) {
    out.add_sharded(index);
  } else {
    throw core::DataError(fmt::format(
        "{} holds neither {}.safetensors nor {}.safetensors.index.json; other weight files (.bin, .pt) "
        "are not read, convert them to safetensors",
        path, stem, stem));
  }
  return out;
}

std::optional<TensorView> Safetensors::find(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) return std::nullopt;
  const Entry& entry = found->second;
  const auto bytes = files_[entry.file].bytes().subspan(entry.data_offset + entry.info.begin,
                                                        entry.info.end - entry.info.begin);
  return TensorView{entry.info.dtype, entry.info.shape, bytes, paths_[entry.file]};
}

std::vector<std::string> Safetensors::names() const {
  std::vector<std::string> out;
  for (const auto& [name, entry] : entries_) out.push_back(name);
  return out;
}

std::uint64_t Safetensors::total_bytes() const {
  std::uint64_t sum = 0;
  for (const auto& [name, entry] : entries_) sum += entry.info.end - entry.info.begin;
  return sum;
}

}  // namespace muster::formats
