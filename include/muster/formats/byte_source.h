// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace muster::formats {

/// Bytes in order, from a file, from memory, or decompressed on the way.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Fills the front of `out` (not empty) and returns how much; 0 only at the end. DataError with path and
  /// offset.
  virtual std::size_t read(std::span<char> out) = 0;
};

/// The file as it is.
std::unique_ptr<ByteSource> open_file_source(const std::string& path);
std::unique_ptr<ByteSource> memory_source(std::string bytes);

/// Decompresses `raw` when it starts with gzip's magic bytes (several members one after another, zero padding
/// at the end) and hands it through otherwise. DataError for compressed data that is damaged or cut off,
/// naming the offset in the file, and for things that are certainly no text (zip, zstd, xz, bzip2, HDF5,
/// UTF-16). `name` is for messages.
std::unique_ptr<ByteSource> decompress_source(std::unique_ptr<ByteSource> raw, const std::string& name);

}  // namespace muster::formats
