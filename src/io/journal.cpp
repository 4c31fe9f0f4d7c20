// SPDX-License-Identifier: Apache-2.0
#include "io/journal.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "io/sealed_text.h"
#include "muster/core/checked.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"

namespace muster::io {
namespace {

/// Takes literals and numbers from the front of a text. Journal lines have one spelling, so they are matched,
/// not parsed as general JSON: nothing in a damaged line can make this allocate or recurse.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : rest_(text) {}
  bool literal(std::string_view expected) {
    if (!rest_.starts_with(expected)) return false;
    rest_.remove_prefix(expected.size());
    return true;
  }
  template <class T>
  bool number(T& out) {
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), out);
    if (error != std::errc()) return false;
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return true;
  }
  bool until(char stop, std::string& out) {
    const auto at = rest_.find(stop);
    if (at == std::string_view::npos) return false;
    out = rest_.substr(0, at);
    rest_.remove_prefix(at + 1);
    return true;
  }

 private:
  std::string_view rest_;
};

/// The number in a file name must be spelled as we spell it, so that a name has one file and a file one name.
std::optional<SegmentName> parse_name(std::string_view name, std::string_view prefix) {
  SegmentName out;
  Cursor cursor(name);
  if (!cursor.literal(prefix) || !cursor.number(out.start) || !cursor.literal("_") ||
      !cursor.number(out.rank)) {
    return std::nullopt;
  }
  return out;
}

std::uint64_t size_or_zero(const std::filesystem::path& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  return error ? 0 : size;
}

bool lies_within(const JournalEntry& entry, std::uint64_t segment_bytes) {
  const auto end = core::checked_add(entry.offset, entry.bytes);
  return end && *end <= segment_bytes && entry.index_offset >= entry.offset && entry.index_offset < *end;
}

constexpr std::uint64_t kMaxJournalBytes = std::uint64_t{1} << 30;

}  // namespace

std::string SegmentName::segment_file() const {
  return fmt::format("segment_{:04}_{:05}.seg", start, rank);
}
std::string SegmentName::journal_file() const {
  return fmt::format("journal_{:04}_{:05}.jsonl", start, rank);
}

std::optional<SegmentName> SegmentName::from_segment_file(std::string_view name) {
  const auto out = parse_name(name, "segment_");
  return out && out->segment_file() == name ? out : std::nullopt;
}

std::optional<SegmentName> SegmentName::from_journal_file(std::string_view name) {
  const auto out = parse_name(name, "journal_");
  return out && out->journal_file() == name ? out : std::nullopt;
}

std::string journal_line(const JournalEntry& entry) {
  return seal(fmt::format(R"({{"segment":"{}","offset":{},"bytes":{},"index_offset":{},"records":{},)",
                          entry.segment, entry.offset, entry.bytes, entry.index_offset, entry.records));
}

std::optional<JournalEntry> parse_journal_line(std::string_view line) {
  if (!seal_holds(line)) return std::nullopt;
  JournalEntry entry;
  Cursor cursor(line);
  const bool well_formed = cursor.literal(R"({"segment":")") && cursor.until('"', entry.segment) &&
                           cursor.literal(R"(,"offset":)") && cursor.number(entry.offset) &&
                           cursor.literal(R"(,"bytes":)") && cursor.number(entry.bytes) &&
                           cursor.literal(R"(,"index_offset":)") && cursor.number(entry.index_offset) &&
                           cursor.literal(R"(,"records":)") && cursor.number(entry.records);
  if (!well_formed || !SegmentName::from_segment_file(entry.segment)) return std::nullopt;
  return entry;
}

std::vector<JournalEntry> parse_journal(std::string_view text, std::size_t* damaged_lines) {
  std::vector<JournalEntry> entries;
  std::size_t bad_so_far = 0;
  *damaged_lines = 0;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const bool complete = end != std::string_view::npos;
    const auto line = text.substr(0, end);
    text.remove_prefix(complete ? end + 1 : text.size());
    // The newline belongs to the commit: without it the line's own fsync cannot have returned.
    const auto entry = complete ? parse_journal_line(line) : std::nullopt;
    if (!entry) {
      ++bad_so_far;
      continue;
    }
    *damaged_lines = bad_so_far;
    entries.push_back(*entry);
  }
  return entries;
}

std::vector<SegmentName> find_segments(const std::string& folder) {
  std::vector<SegmentName> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string file = it->path().filename().string();
    if (const auto name = SegmentName::from_journal_file(file)) names.push_back(*name);
    if (const auto name = SegmentName::from_segment_file(file)) names.push_back(*name);
  }
  if (error) throw core::OutputError(fmt::format("cannot list {}: {}", folder, error.message()));
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

std::vector<JournalEntry> read_journals(const std::string& folder) {
  std::vector<JournalEntry> all;
  for (const auto& name : find_segments(folder)) {
    const auto journal = std::filesystem::path(folder) / name.journal_file();
    if (!std::filesystem::exists(journal)) continue;  // died before its first commit
    const auto segment_bytes = size_or_zero(std::filesystem::path(folder) / name.segment_file());
    std::size_t damaged_lines = 0;
    const auto text = core::read_file(journal.string(), kMaxJournalBytes);
    for (auto& entry : parse_journal(text, &damaged_lines)) {
      if (entry.segment == name.segment_file() && lies_within(entry, segment_bytes)) {
        all.push_back(std::move(entry));
      } else {
        ++damaged_lines;
      }
    }
    if (damaged_lines > 0) {
      core::log::warning("{}: {} damaged lines set aside; their items are done again", journal.string(),
                         damaged_lines);
    }
  }
  return all;
}

std::string group_damage(std::span<const std::byte> segment, const JournalEntry& entry,
                         const std::string& path) {
  try {
    const auto refs = formats::read_index_frame(segment, entry.index_offset, path);
    if (refs.size() != entry.records) {
      return fmt::format("{} at {}: {} records where the journal says {}", path, entry.offset, refs.size(),
                         entry.records);
    }
    for (const auto& ref : refs) formats::read_record(segment, ref, path);
    return "";
  } catch (const core::DataError& error) {
    return error.what();
  }
}

}  // namespace muster::io
