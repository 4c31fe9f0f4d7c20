// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/core/unique_handle.h"

namespace muster::core {

struct FdTraits {
  using Handle = int;
  static int invalid() { return -1; }
  static int close(int fd) noexcept;
};
using UniqueFd = UniqueHandle<FdTraits>;

/// All of these throw OutputError (writing) or DataError (reading) with path and errno.
UniqueFd open_for_reading(const std::string& path);
UniqueFd create_for_writing(const std::string& path);  ///< truncates, 0644, O_CLOEXEC
void write_all(int fd, std::span<const std::byte> bytes, const std::string& path);
void write_all(int fd, std::string_view bytes, const std::string& path);
void pread_all(int fd, std::span<std::byte> out, std::uint64_t offset, const std::string& path);
/// fsync; a failure means that the data may be lost, so it throws and must not be retried.
void sync(int fd, const std::string& path);
void sync_directory(const std::string& directory);
void make_directories(const std::string& path);
/// The whole file; DataError when it is larger than `max_bytes`.
std::string read_file(const std::string& path, std::uint64_t max_bytes);
std::uint64_t file_size(const std::string& path);
/// Free bytes of the file system that holds `path` (or its nearest existing parent).
std::uint64_t free_disk_bytes(const std::string& path);

/// fsync(temporary), rename over `path`, fsync the directory.
void publish_file(const std::string& temporary, const std::string& path);
/// Writes `path + ".tmp"` and publishes it: readers see the old content or the new, never a part.
void publish_text(const std::string& path, std::string_view content);

/// A file mapped read-only. Keeps the size it had when mapped.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace muster::core
