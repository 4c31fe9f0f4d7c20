// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "muster/core/file.h"
#include "muster/formats/safetensors.h"

namespace muster::formats {

/// A tensor to be written.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::uint64_t> shape;
};

/// How tensors lie in a file: as given, or wide types first and then by name, as the format's own library
/// writes them (so that every tensor is aligned to its type).
enum class TensorOrder { kGiven, kSorted };

/// Writes one .safetensors file as a stream: the header when it is made, then the tensors' bytes in file
/// order, whole or in pieces. The data begin at a multiple of eight. The file is good once finish() has
/// returned; before that, and after an error, it is a fragment under the name it was given.
class SafetensorsWriter {
 public:
  struct Config {
    std::string path;
    std::vector<TensorSpec> tensors;
    std::map<std::string, std::string> metadata;
    TensorOrder order = TensorOrder::kSorted;
  };
  /// OutputError when the file cannot be written; names that the format forbids (twice, "__metadata__") and
  /// sizes beyond 64 bits are our own mistakes.
  explicit SafetensorsWriter(Config config);

  /// In the order of the file.
  const std::vector<TensorSpec>& tensors() const { return tensors_; }
  /// The next bytes of the file's data; they may span tensors.
  void write(std::span<const std::byte> bytes);
  /// The whole of tensor `name`, which must be next.
  void write(const std::string& name, std::span<const std::byte> bytes);
  /// Syncs and closes. All tensors must have been written.
  void finish();

 private:
  std::string header(const std::map<std::string, std::string>& metadata) const;

  std::string path_;
  std::vector<TensorSpec> tensors_;
  std::vector<std::uint64_t> begins_;  ///< of each tensor in the data part, and the end of all
  core::UniqueFd file_;
  std::uint64_t written_ = 0;
};

}  // namespace muster::formats
