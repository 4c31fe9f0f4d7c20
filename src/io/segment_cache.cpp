// SPDX-License-Identifier: Apache-2.0
#include "io/segment_cache.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <filesystem>

#include "muster/core/error.h"

namespace muster::io {
namespace {

constexpr std::uint64_t kReleaseEvery = std::uint64_t{8} << 20;
// A page fault maps up to 64 kB of the file around the byte that was asked for, small as the record may be.
constexpr std::uint64_t kLeastRead = std::uint64_t{16} << 10;

}  // namespace

std::span<const std::byte> SegmentCache::open(const std::string& segment, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  auto& mappings = files_[segment];
  if (mappings.empty() || mappings.back().bytes().size() < bytes) {
    mappings.emplace_back((std::filesystem::path(folder_) / segment).string());
  }
  const auto& newest = mappings.back();
  if (newest.bytes().size() < bytes) {
    throw core::DataError(
        fmt::format("{} has {} bytes, {} are needed", newest.path(), newest.bytes().size(), bytes));
  }
  return newest.bytes();
}

void SegmentCache::will_read(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  read_bytes_ += std::max(bytes, kLeastRead);
  if (read_bytes_ < kReleaseEvery) return;
  read_bytes_ = 0;
  for (const auto& [name, mappings] : files_) {
    for (const auto& mapping : mappings) {
      const auto span = mapping.bytes();
      // A shared read-only file mapping: readers that still hold a span simply fault the page in again.
      if (!span.empty()) ::madvise(const_cast<std::byte*>(span.data()), span.size(), MADV_DONTNEED);
    }
  }
}

}  // namespace muster::io
