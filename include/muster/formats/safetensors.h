// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/core/file.h"

namespace muster::formats {

enum class DType {
  kF64,
  kF32,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  kF8E4M3,
  kF8E5M2,
  kU16,
  kU32,
  kU64
};
std::size_t dtype_bytes(DType dtype);
std::string_view dtype_name(DType dtype);  ///< the file's own spelling, "BF16"

struct TensorInfo {
  DType dtype = DType::kF32;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;  ///< offsets from the start of the file's data part
  std::uint64_t end = 0;
};

/// The header of one .safetensors file, every rule of the format checked before anything is allocated: header
/// length at most 100,000,000 and within the file, JSON object starting with '{', no duplicate names, known
/// dtypes, size == shape x dtype (checked product), offsets contiguous from 0 without hole or overlap, end ==
/// file size. DataError names the file, the broken rule, the tensor and the offset.
struct SafetensorsHeader {
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
  std::uint64_t data_offset = 0;  ///< of the data part in the file
};
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& path);

/// One tensor's bytes, in place in the mapped file. The format does not promise that they are aligned.
struct TensorView {
  DType dtype = DType::kF32;
  std::vector<std::uint64_t> shape;
  std::span<const std::byte> bytes;
  std::string file;
};

/// A checkpoint: one .safetensors file, or a folder with NAME.safetensors or NAME.safetensors.index.json and
/// its shards (every index entry checked against the shard that holds it; names are relative, no "..").
class Safetensors {
 public:
  /// `path` is a file (also an index) or a folder; in a folder `stem` names the file ("model",
  /// "diffusion_pytorch_model").
  static Safetensors open(const std::string& path, const std::string& stem = "model");
  std::optional<TensorView> find(const std::string& name) const;
  std::vector<std::string> names() const;  ///< sorted
  const std::vector<std::string>& files() const { return paths_; }
  std::uint64_t total_bytes() const;

 private:
  struct Entry {
    std::size_t file;
    TensorInfo info;
    std::uint64_t data_offset;
  };
  std::size_t add_file(const std::string& path);
  void add_single(const std::string& path);
  void add_sharded(const std::string& index_path);

  std::vector<core::MappedFile> files_;
  std::vector<std::string> paths_;
  std::map<std::string, Entry> entries_;
};

}  // namespace muster::formats
