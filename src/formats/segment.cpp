// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/segment.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <limits>

#include "muster/core/checked.h"
#include "muster/core/digest.h"
#include "muster/core/error.h"

namespace muster::formats {
namespace {

static_assert(std::endian::native == std::endian::little, "segments are written as they lie in memory");

constexpr std::uint32_t kFrameMagic = 0x4D52464Du;  // "MFRM"
constexpr std::uint8_t kIndexKind = 0xFF;
constexpr std::uint64_t kAlignment = 8;

struct FrameHeader {
  std::uint32_t magic;
  std::uint32_t crc;
  std::uint64_t item;  ///< of an index: how many records it lists
  std::uint32_t payload_bytes;
  std::uint8_t kind;
  std::array<std::uint8_t, 3> zeros;
};
static_assert(sizeof(FrameHeader) == 24);
constexpr std::size_t kCrcFrom = offsetof(FrameHeader, item);

struct IndexEntry {
  std::uint64_t item;
  std::uint64_t offset;
  std::uint32_t payload_bytes;
  std::uint8_t kind;
  std::array<std::uint8_t, 3> zeros;
};
static_assert(sizeof(IndexEntry) == 24);

std::uint64_t frame_bytes(std::uint64_t payload_bytes) {
  return core::ceil_div(sizeof(FrameHeader) + payload_bytes, kAlignment) * kAlignment;
}

void append_frame(std::vector<std::byte>& out, std::uint8_t kind, std::uint64_t item,
                  std::span<const std::byte> payload) {
  core::internal_check(payload.size() <= std::numeric_limits<std::uint32_t>::max(),
                       "a record's payload is at most 4 GiB");
  FrameHeader header{kFrameMagic, 0, item, static_cast<std::uint32_t>(payload.size()), kind, {}};
  const std::size_t start = out.size();
  out.resize(start + frame_bytes(payload.size()));
  std::byte* frame = out.data() + start;
  std::memcpy(frame, &header, sizeof(header));
  if (!payload.empty()) std::memcpy(frame + sizeof(header), payload.data(), payload.size());
  header.crc = core::crc32c(std::span<const std::byte>(out).subspan(start + kCrcFrom));
  std::memcpy(frame, &header, sizeof(header));
}

struct Frame {
  FrameHeader header;
  std::span<const std::byte> payload;
};

/// The whole frame at `offset`, its CRC checked.
Frame read_frame(std::span<const std::byte> segment, std::uint64_t offset, const std::string& path) {
  const auto fail = [&](std::string_view problem) {
    throw core::DataError(fmt::format("{}: the frame at byte {} {}", path, offset, problem));
  };
  if (offset > segment.size() || segment.size() - offset < sizeof(FrameHeader)) fail("is cut off");
  Frame frame;
  std::memcpy(&frame.header, segment.data() + offset, sizeof(FrameHeader));
  if (frame.header.magic != kFrameMagic) fail("does not start with a frame's magic number");
  const std::uint64_t bytes = frame_bytes(frame.header.payload_bytes);
  if (bytes > segment.size() - offset) fail("is cut off");
  const auto checked = segment.subspan(offset + kCrcFrom, bytes - kCrcFrom);
  if (core::crc32c(checked) != frame.header.crc) fail("is damaged (its checksum differs)");
  frame.payload = segment.subspan(offset + sizeof(FrameHeader), frame.header.payload_bytes);
  return frame;
}

bool is_record_kind(std::uint8_t kind) {
  return kind == static_cast<std::uint8_t>(RecordKind::kResult) ||
         kind == static_cast<std::uint8_t>(RecordKind::kFailure);
}

}  // namespace

void SegmentGroup::add(const Record& record) {
  const std::uint64_t offset = base_ + bytes_.size();
  append_frame(bytes_, static_cast<std::uint8_t>(record.kind), record.item, record.payload);
  refs_.push_back({record.item, offset, static_cast<std::uint32_t>(record.payload.size()), record.kind});
}

std::uint64_t SegmentGroup::finish() {
  std::vector<IndexEntry> entries;
  entries.reserve(refs_.size());
  for (const auto& ref : refs_) {
    entries.push_back({ref.item, ref.offset, ref.payload_bytes, static_cast<std::uint8_t>(ref.kind), {}});
  }
  const std::uint64_t offset = base_ + bytes_.size();
  append_frame(bytes_, kIndexKind, entries.size(), std::as_bytes(std::span(entries)));
  return offset;
}

std::vector<RecordRef> read_index_frame(std::span<const std::byte> segment, std::uint64_t offset,
                                        const std::string& path) {
  const auto fail = [&](std::string_view problem) {
    throw core::DataError(fmt::format("{}: the index at byte {} {}", path, offset, problem));
  };
  const Frame frame = read_frame(segment, offset, path);
  if (frame.header.kind != kIndexKind) fail("is a record instead");
  const std::size_t count = frame.payload.size() / sizeof(IndexEntry);
  if (frame.payload.size() % sizeof(IndexEntry) != 0 || frame.header.item != count)
    fail("has a size that does not fit its count");
  std::vector<RecordRef> refs;
  refs.reserve(count);
  std::uint64_t expected = 0;
  for (std::size_t i = 0; i < count; ++i) {
    IndexEntry entry;
    std::memcpy(&entry, frame.payload.data() + i * sizeof(IndexEntry), sizeof(IndexEntry));
    // The group's frames lie one after another and the index follows them.
    if (i > 0 && entry.offset != expected)
      fail(fmt::format("places record {} at byte {}, not {}", i, entry.offset, expected));
    if (!is_record_kind(entry.kind))
      fail(fmt::format("lists record {} with the unknown kind {}", i, entry.kind));
    const std::uint64_t bytes = frame_bytes(entry.payload_bytes);
    if (entry.offset > offset || bytes > offset - entry.offset)
      fail(fmt::format("places record {} beyond itself", i));
    expected = entry.offset + bytes;
    refs.push_back({entry.item, entry.offset, entry.payload_bytes, static_cast<RecordKind>(entry.kind)});
  }
  if (count > 0 && expected != offset)
    fail(fmt::format("does not follow its last record, which ends at byte {}", expected));
  return refs;
}

std::span<const std::byte> read_record(std::span<const std::byte> segment, const RecordRef& ref,
                                       const std::string& path) {
  const Frame frame = read_frame(segment, ref.offset, path);
  const auto& header = frame.header;
  if (header.item != ref.item || header.kind != static_cast<std::uint8_t>(ref.kind) ||
      header.payload_bytes != ref.payload_bytes) {
    throw core::DataError(fmt::format(
        "{}: the frame at byte {} is of item {} (kind {}, {} bytes), not of item {} (kind {}, {} bytes)",
        path, ref.offset, header.item, header.kind, header.payload_bytes, ref.item,
        static_cast<unsigned>(ref.kind), ref.payload_bytes));
  }
  return frame.payload;
}

}  // namespace muster::formats
