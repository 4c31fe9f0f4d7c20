// SPDX-License-Identifier: Apache-2.0
#include "muster/core/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/fault.h"

namespace muster::core {
namespace {

[[noreturn]] void fail_output(std::string_view what, const std::string& path, int error) {
  const char* remedy = error == ENOSPC || error == EDQUOT ? "; free some space and run the same command again"
                       : error == EROFS || error == EACCES ? "; choose a writable output directory"
                                                           : "";
  throw OutputError(fmt::format("cannot {} {}: {}{}", what, path, errno_text(error), remedy));
}

[[noreturn]] void fail_input(std::string_view what, const std::string& path, int error) {
  throw DataError(fmt::format("cannot {} {}: {}", what, path, errno_text(error)));
}

}  // namespace

int FdTraits::close(int fd) noexcept {
  return ::close(fd);
}

UniqueFd open_for_reading(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) fail_input("open", path, errno);
  return fd;
}

UniqueFd create_for_writing(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) fail_output("create", path, errno);
  return fd;
}

void write_all(int fd, std::span<const std::byte> bytes, const std::string& path) {
  if (fault_point("file.write")) fail_output("write", path, EIO);
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_output("write", path, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void write_all(int fd, std::string_view bytes, const std::string& path) {
  write_all(fd, std::as_bytes(std::span(bytes.data(), bytes.size())), path);
}

void pread_all(int fd, std::span<std::byte> out, std::uint64_t offset, const std::string& path) {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_input("read", path, errno);
    if (n == 0)
      throw DataError(
          fmt::format("{} ends early: {} more bytes expected at offset {}", path, out.size(), offset));
    out = out.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
}

void sync(int fd, const std::string& path) {
  if (fault_point("file.sync")) fail_output("sync", path, EIO);
  if (::fsync(fd) != 0) fail_output("sync", path, errno);
}

void sync_directory(const std::string& directory) {
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) fail_output("open directory", directory, errno);
  // Some network file systems refuse to sync a directory; the rename itself is then all there is.
  if (::fsync(fd.get()) != 0 && errno != EINVAL && errno != ENOTSUP)
    fail_output("sync directory", directory, errno);
}

void make_directories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail_output("create directory", path, error.value());
}

std::string read_file(const std::string& path, std::uint64_t max_bytes) {
  const UniqueFd fd = open_for_reading(path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) fail_input("stat", path, errno);
  if (S_ISDIR(info.st_mode)) fail_input("read", path, EISDIR);
  const auto size = static_cast<std::uint64_t>(info.st_size);
  if (size > max_bytes) {
    throw DataError(fmt::format("{} has {} bytes; at most {} are read", path, size, max_bytes));
  }
  std::string out(size, '\0');
  pread_all(fd.get(), std::as_writable_bytes(std::span(out)), 0, path);
  return out;
}

std::uint64_t file_size(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) fail_input("stat", path, errno);
  return static_cast<std::uint64_t>(info.st_size);
}

std::uint64_t free_disk_bytes(const std::string& path) {
  std::filesystem::path probe = std::filesystem::absolute(path);
  while (!std::filesystem::exists(probe) && probe.has_relative_path()) probe = probe.parent_path();
  struct statvfs info {};
  if (::statvfs(probe.c_str(), &info) != 0) fail_output("query free space of", probe.string(), errno);
  return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
}

void publish_file(const std::string& temporary, const std::string& path) {
  {
    UniqueFd fd(::open(temporary.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) fail_output("open", temporary, errno);
    sync(fd.get(), temporary);
  }
  fault_point("publish.before_rename");
  if (::rename(temporary.c_str(), path.c_str()) != 0) fail_output("rename to", path, errno);
  fault_point("publish.after_rename");
  const auto parent = std::filesystem::path(path).parent_path();
  sync_directory(parent.empty() ? "." : parent.string());
}

void publish_text(const std::string& path, std::string_view content) {
  const std::string temporary = path + ".tmp";
  {
    UniqueFd fd = create_for_writing(temporary);
    write_all(fd.get(), content, temporary);
    if (fd.close() != 0) fail_output("close", temporary, errno);
  }
  publish_file(temporary, path);
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const UniqueFd fd = open_for_reading(path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) fail_input("stat", path, errno);
  if (!S_ISREG(info.st_mode)) throw DataError(fmt::format("{} is not a regular file", path));
  size_ = static_cast<std::size_t>(info.st_size);
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (address == MAP_FAILED) fail_input("map", path, errno);
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace muster::core
