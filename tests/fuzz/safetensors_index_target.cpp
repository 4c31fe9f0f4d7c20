// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstring>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "muster/formats/safetensors.h"

namespace muster::fuzz {
namespace {

/// A shard with one tensor of four bytes for each letter of `names`.
std::string shard(std::string_view names) {
  std::string header, data;
  for (const char name : names) {
    header += fmt::format("{}\"{}\":{{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[{},{}]}}",
                          header.empty() ? "" : ",", name, data.size(), data.size() + 4);
    data += std::string(4, name);
  }
  header = "{" + header + "}";
  const std::uint64_t length = header.size();
  std::string out(sizeof(length), '\0');
  std::memcpy(out.data(), &length, sizeof(length));
  return out + header + data;
}

}  // namespace

/// Any bytes as the index beside two shards: a checkpoint that opens is the tensors of the shards it names.
void safetensors_index(std::string_view bytes) {
  const Folder folder;
  folder.write("a.safetensors", shard("ab"));
  folder.write("b.safetensors", shard("c"));
  folder.write("model.safetensors.index.json", bytes);
  const auto checkpoint = unless<core::DataError>([&] { return formats::Safetensors::open(folder.path()); });
  if (!checkpoint) return;
  for (const auto& name : checkpoint->names()) {
    const auto tensor = checkpoint->find(name);
    expect(tensor.has_value() && tensor->bytes.size() == 4, "a tensor has its size");
    expect(name.size() == 1 && tensor->bytes.front() == static_cast<std::byte>(name.front()),
           "a name finds its own tensor");
    expect(
        tensor->file == folder.path() + "/a.safetensors" || tensor->file == folder.path() + "/b.safetensors",
        "no shard lies elsewhere");
  }
  expect(checkpoint->total_bytes() == 4 * checkpoint->names().size(), "all bytes are counted");
}

}  // namespace muster::fuzz
