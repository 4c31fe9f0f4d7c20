// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "muster/core/checked.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "muster/formats/json.h"
#include "muster/formats/safetensors.h"

namespace muster::formats {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
/// About 50,000 tensors a file; bounds the time and memory that a hostile header can take.
constexpr std::size_t kMaxHeaderValues = 400'000;
constexpr std::string_view kMetadataKey = "__metadata__";

struct DTypeEntry {
  DType dtype;
  std::string_view name;
  std::size_t bytes;
};
constexpr std::array<DTypeEntry, 15> kDTypes{{
    {DType::kF64, "F64", 8},
    {DType::kF32, "F32", 4},
    {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2},
    {DType::kI64, "I64", 8},
    {DType::kI32, "I32", 4},
    {DType::kI16, "I16", 2},
    {DType::kI8, "I8", 1},
    {DType::kU8, "U8", 1},
    {DType::kBool, "BOOL", 1},
    {DType::kF8E4M3, "F8_E4M3", 1},
    {DType::kF8E5M2, "F8_E5M2", 1},
    {DType::kU16, "U16", 2},
    {DType::kU32, "U32", 4},
    {DType::kU64, "U64", 8},
}};

const DTypeEntry& entry_of(DType dtype) {
  const auto found =
      std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& e) { return e.dtype == dtype; });
  core::internal_check(found != kDTypes.end(), "every DType has an entry");
  return *found;
}

DType read_dtype(const JsonValue& value) {
  const auto name = value.view();
  for (const auto& entry : kDTypes) {
    if (entry.name == name) return entry.dtype;
  }
  value.fail(fmt::format("is '{}', a dtype that is not supported", core::printable(name, 20)));
}

/// Shape x dtype; fails on overflow.
std::uint64_t claimed_bytes(const JsonValue& tensor, const TensorInfo& info) {
  std::optional<std::uint64_t> bytes = dtype_bytes(info.dtype);
  for (const auto dimension : info.shape) {
    if (bytes) bytes = core::checked_mul(*bytes, dimension);
  }
  if (!bytes) tensor.fail("has a shape whose size overflows 64 bits");
  return *bytes;
}

TensorInfo read_tensor(const JsonValue& tensor, std::uint64_t data_bytes) {
  for (const auto& [key, value] : tensor.members()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") value.fail("is not part of the format");
  }
  TensorInfo info;
  info.dtype = read_dtype(tensor.at("dtype"));
  info.shape = tensor.at("shape").as_list<std::uint64_t>();
  const auto offsets = tensor.at("data_offsets");
  if (offsets.size() != 2) offsets.fail(fmt::format("has {} numbers, not 2", offsets.size()));
  info.begin = offsets.element(0).as<std::uint64_t>();
  info.end = offsets.element(1).as<std::uint64_t>();
  if (info.begin > info.end)
    offsets.fail(fmt::format("begins at {}, after its end at {}", info.begin, info.end));
  if (info.end > data_bytes) {
    offsets.fail(fmt::format("ends at {}, but the file has {} bytes of data; is the file cut off?", info.end,
                             data_bytes));
  }
  const std::uint64_t bytes = claimed_bytes(tensor, info);
  if (bytes != info.end - info.begin) {
    tensor.fail(
        fmt::format("has a shape of {} bytes, but its data_offsets span {}", bytes, info.end - info.begin));
  }
  return info;
}

/// Tensors must tile the data part: from 0, without hole or overlap, to the end of the file.
void check_tiling(const SafetensorsHeader& header, std::uint64_t data_bytes, const std::string& path) {
  std::vector<const std::pair<const std::string, TensorInfo>*> order;
  for (const auto& entry : header.tensors) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t expected = 0;
  for (const auto* entry : order) {
    const auto& [name, info] = *entry;
    if (info.begin != expected) {
      throw core::DataError(fmt::format(
          "{}: tensor '{}' begins at byte {} of the data, which {} before it (at {})", path,
          core::printable(name), info.begin,
          info.begin > expected ? "leaves a hole after what lies" : "overlaps what lies", expected));
    }
    expected = info.end;
  }
  if (expected != data_bytes) {
    throw core::DataError(
        fmt::format("{}: {} bytes of data, but the tensors end at {}", path, data_bytes, expected));
  }
}

}  // namespace

std::size_t dtype_bytes(DType dtype) {
  return entry_of(dtype).bytes;
}
std::string_view dtype_name(DType dtype) {
  return entry_of(dtype).name;
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& path) {
  if (file.size() < kLengthBytes) {
    throw core::DataError(fmt::format(
        "{}: {} bytes are too few for the header's length; is the file cut off?", path, file.size()));
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > kMaxHeaderBytes) {
    throw core::DataError(
        fmt::format("{}: a header of {} bytes; the format allows {}. Is this a safetensors file?", path,
                    length, kMaxHeaderBytes));
  }
  if (length > file.size() - kLengthBytes) {
    throw core::DataError(fmt::format("{}: a header of {} bytes, but only {} follow; is the file cut off?",
                                      path, length, file.size() - kLengthBytes));
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (!text.starts_with('{')) {
    throw core::DataError(
        fmt::format("{}: the header at byte {} does not start with '{{'", path, kLengthBytes));
  }
  const JsonValue json =
      parse_json(text, path, {.max_bytes = kMaxHeaderBytes, .max_values = kMaxHeaderValues});

  SafetensorsHeader header;
  header.data_offset = kLengthBytes + length;
  const std::uint64_t data_bytes = file.size() - header.data_offset;
  for (const auto& [name, value] : json.members()) {
    if (name == kMetadataKey) {
      for (const auto& [key, text_value] : value.members())
        header.metadata.emplace(key, text_value.as<std::string>());
    } else {
      header.tensors.emplace(name, read_tensor(value, data_bytes));
    }
  }
  check_tiling(header, data_bytes, path);
  return header;
}

}  // namespace muster::formats
