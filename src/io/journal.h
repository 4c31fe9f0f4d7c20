// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/io/run_directory.h"

namespace muster::io {

/// Which start of the job and which rank wrote a segment and its journal. A start never appends to files of
/// an earlier one.
struct SegmentName {
  std::uint32_t start = 0;
  std::uint32_t rank = 0;
  auto operator<=>(const SegmentName&) const = default;

  std::string segment_file() const;  ///< "segment_0002_00003.seg"
  std::string journal_file() const;  ///< "journal_0002_00003.jsonl"
  static std::optional<SegmentName> from_segment_file(std::string_view name);
  static std::optional<SegmentName> from_journal_file(std::string_view name);
};

/// One line without its newline: JSON that ends with its own checksum.
std::string journal_line(const JournalEntry& entry);
/// nullopt when the line is torn or damaged in any way.
std::optional<JournalEntry> parse_journal_line(std::string_view line);

/// The entries of one journal in order. A bad last line is a torn tail and ignored; a bad line before it is
/// reported in
/// `*damaged_lines`.
std::vector<JournalEntry> parse_journal(std::string_view text, std::size_t* damaged_lines);

/// Every entry of every journal in `folder` that names the segment belonging to it and lies within that
/// segment's file; by start, rank and place in the journal.
std::vector<JournalEntry> read_journals(const std::string& folder);

/// The segments and journals in `folder`, sorted.
std::vector<SegmentName> find_segments(const std::string& folder);

/// Reads the whole group and checks every CRC in it. Returns what is wrong, empty when nothing is.
std::string group_damage(std::span<const std::byte> segment, const JournalEntry& entry,
                         const std::string& path);

}  // namespace muster::io
