// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace muster::formats {

/// What became of one item.
enum class RecordKind : std::uint8_t { kResult = 1, kFailure = 2 };

/// A record in memory: `item` is the item's row, the payload is the phase's own (fixed-size for encode).
/// A failure's payload is its reason as UTF-8.
struct Record {
  std::uint64_t item = 0;
  RecordKind kind = RecordKind::kResult;
  std::vector<std::byte> payload;
};

/// Segment files are append-only sequences of frames; a frame is a header {magic, CRC-32C over all the rest
/// of the frame, item, payload bytes, kind, three zeros}, its payload and zeros up to a multiple of 8, so
/// that payloads are aligned. A commit group ends with an index frame that lists {item, offset, bytes, kind}
/// of every record in the group, so that a reader need not touch the payloads.
struct RecordRef {
  std::uint64_t item = 0;
  std::uint64_t offset = 0;  ///< of the frame in the segment file
  std::uint32_t payload_bytes = 0;
  RecordKind kind = RecordKind::kResult;
};

/// Collects the frames of one commit group in memory.
class SegmentGroup {
 public:
  /// `base` is the segment's length so far; refs get absolute offsets.
  explicit SegmentGroup(std::uint64_t base) : base_(base) {}
  void add(const Record& record);
  /// Appends the index frame; returns its absolute offset.
  std::uint64_t finish();
  std::span<const std::byte> bytes() const { return bytes_; }
  const std::vector<RecordRef>& refs() const { return refs_; }
  bool empty() const { return refs_.empty(); }

 private:
  std::uint64_t base_;
  std::vector<std::byte> bytes_;
  std::vector<RecordRef> refs_;
};

/// Parses the index frame at `offset` of a mapped segment; DataError with path and offset when it is damaged.
std::vector<RecordRef> read_index_frame(std::span<const std::byte> segment, std::uint64_t offset,
                                        const std::string& path);
/// The payload behind `ref`, its CRC and item checked.
std::span<const std::byte> read_record(std::span<const std::byte> segment, const RecordRef& ref,
                                       const std::string& path);

}  // namespace muster::formats
