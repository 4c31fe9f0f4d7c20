// SPDX-License-Identifier: Apache-2.0
#include "io/journal.h"

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "io/sealed_text.h"

namespace muster::fuzz {
namespace {

/// The same lines with the checksum they need.
std::string sealed_lines(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto [line, rest] = cut(text, '\n');
    text = rest;
    out += io::seal(std::string(line.substr(0, line.find("\"crc32c\"")))) + "\n";
  }
  return out;
}

void check(std::string_view journal) {
  std::size_t damaged = 0;
  const auto entries = io::parse_journal(journal, &damaged);
  std::string written;
  for (const auto& entry : entries) {
    expect(io::SegmentName::from_segment_file(entry.segment).has_value(), "an entry names a segment");
    written += io::journal_line(entry) + "\n";
  }
  std::size_t none = 1;
  const auto again = io::parse_journal(written, &none);
  expect(none == 0 && again.size() == entries.size(), "every written line is read");
  for (std::size_t i = 0; i < again.size(); ++i) {
    expect(io::journal_line(again[i]) == io::journal_line(entries[i]), "a written line reads back");
  }
}

}  // namespace

void journal(std::string_view bytes) {
  check(bytes);
  check(sealed_lines(bytes));
  for (const auto& name :
       {io::SegmentName::from_segment_file(bytes), io::SegmentName::from_journal_file(bytes)}) {
    if (name) expect(name->segment_file() == bytes || name->journal_file() == bytes, "a file has one name");
  }
}

}  // namespace muster::fuzz
