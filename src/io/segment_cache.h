// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "muster/core/file.h"

namespace muster::io {

/// Segment files mapped for reading. Spans stay valid as long as the cache. Thread-safe.
class SegmentCache {
 public:
  explicit SegmentCache(std::string folder) : folder_(std::move(folder)) {}
  /// The whole file, at least `bytes` long (mapped again when it has grown since). DataError when it is
  /// shorter.
  std::span<const std::byte> open(const std::string& segment, std::uint64_t bytes);
  /// Tells that `bytes` of some segment are about to be read. Every now and then the pages read so far are
  /// given back, because mapped pages count as this process's memory and a corpus may be larger than that.
  void will_read(std::uint64_t bytes);

 private:
  std::string folder_;
  std::mutex mutex_;
  std::map<std::string, std::vector<core::MappedFile>>
      files_;  // newest mapping last; older ones back earlier spans
  std::uint64_t read_bytes_ = 0;
};

}  // namespace muster::io
