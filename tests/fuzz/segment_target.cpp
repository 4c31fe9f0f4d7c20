// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/segment.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "muster/core/digest.h"

namespace muster::fuzz {
namespace {

constexpr std::size_t kHeaderBytes = 24, kCrcAt = 4, kCrcFrom = 8, kSizeAt = 16;

std::vector<std::byte> as_bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// Puts the right checksum into the frame at `offset`, where there is room for one, so that what lies behind
/// the check is reached.
void seal(std::vector<std::byte>& file, std::size_t offset) {
  if (offset > file.size() || file.size() - offset < kHeaderBytes) return;
  std::uint32_t payload = 0;
  std::memcpy(&payload, file.data() + offset + kSizeAt, sizeof(payload));
  const std::uint64_t bytes = (kHeaderBytes + std::uint64_t{payload} + 7) / 8 * 8;
  if (bytes > file.size() - offset) return;
  const std::uint32_t crc = core::crc32c(std::span(file).subspan(offset + kCrcFrom, bytes - kCrcFrom));
  std::memcpy(file.data() + offset + kCrcAt, &crc, sizeof(crc));
}

/// Any bytes as a segment: what an index lists lies before it, one after another, and a record lies in the
/// file.
void read_any(std::string_view bytes, std::uint16_t where) {
  auto file = as_bytes(bytes);
  const std::uint64_t offset = where % (file.size() + 1) / 8 * 8;
  seal(file, offset);
  const auto refs =
      unless<core::DataError>([&] { return formats::read_index_frame(file, offset, "fuzz.seg"); });
  if (!refs) return;
  for (const auto& ref : *refs) {
    expect(ref.offset < offset && ref.payload_bytes <= offset - ref.offset,
           "an index lists records before itself");
    seal(file, ref.offset);
    const auto payload = unless<core::DataError>([&] { return formats::read_record(file, ref, "fuzz.seg"); });
    if (!payload) continue;
    expect(payload->size() == ref.payload_bytes, "a record has the size that its index says");
    expect(payload->data() >= file.data() && payload->data() + payload->size() <= file.data() + file.size(),
           "a record lies in the file");
  }
}

/// The records of a text: one of each line.
std::vector<formats::Record> records_of(std::string_view text) {
  std::vector<formats::Record> records;
  while (!text.empty()) {
    const auto [line, rest] = cut(text, '\n');
    text = rest;
    const auto kind = line.starts_with('!') ? formats::RecordKind::kFailure : formats::RecordKind::kResult;
    records.push_back({.item = records.size() * 3, .kind = kind, .payload = as_bytes(line)});
  }
  return records;
}

/// Whether every record of the group reads back as it was.
bool reads_back(std::span<const std::byte> file, std::uint64_t index,
                const std::vector<formats::Record>& records) {
  const auto refs = formats::read_index_frame(file, index, "fuzz.seg");
  if (refs.size() != records.size()) return false;
  for (std::size_t i = 0; i < refs.size(); ++i) {
    const auto payload = formats::read_record(file, refs[i], "fuzz.seg");
    if (refs[i].item != records[i].item || refs[i].kind != records[i].kind) return false;
    if (!std::ranges::equal(payload, records[i].payload)) return false;
  }
  return true;
}

/// A written group reads back; with any byte changed, or cut off, it never does.
void write_and_damage(std::string_view text, std::uint16_t where, std::uint8_t flip) {
  const auto records = records_of(text);
  constexpr std::uint64_t kBase = 64;
  formats::SegmentGroup group(kBase);
  for (const auto& record : records) group.add(record);
  const std::uint64_t index = group.finish();
  std::vector<std::byte> file(kBase);
  file.insert(file.end(), group.bytes().begin(), group.bytes().end());
  expect(reads_back(file, index, records), "what was written reads back");

  const std::size_t at = kBase + where % (file.size() - kBase);
  const auto shorter = std::span(std::as_const(file)).first(at);
  expect(!unless<core::DataError>([&] { return reads_back(shorter, index, records); }),
         "a group that is cut off is noticed");
  if (flip == 0) return;
  file[at] ^= std::byte{flip};
  expect(!unless<core::DataError>([&] { return reads_back(file, index, records); }),
         "a changed byte is noticed");
}

}  // namespace

void segment(std::string_view bytes) {
  Input input(bytes);
  const std::uint8_t mode = input.byte();
  const std::uint16_t where = input.number();
  if (mode % 2 == 0) return read_any(input.rest(), where);
  const std::uint8_t flip = input.byte();
  write_and_damage(input.rest(), where, flip);
}

}  // namespace muster::fuzz
