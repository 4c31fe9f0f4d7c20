// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "muster/formats/table.h"

namespace muster::fuzz {
namespace {

using Maker = std::unique_ptr<formats::TableReader> (*)(std::unique_ptr<formats::ByteSource>, std::size_t);
constexpr Maker kMakers[] = {formats::make_tsv_reader, formats::make_csv_reader, formats::make_line_reader};
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

struct Row {
  std::vector<std::string> fields;
  std::uint64_t line = 0, byte_offset = 0;
  std::string problem;
  bool operator==(const Row&) const = default;
};

std::vector<Row> rows_of(Maker make, std::string_view text, std::size_t max_row_bytes,
                         std::uint8_t portions) {
  const auto reader = make(portioned_source(std::string(text), portions), max_row_bytes);
  std::vector<Row> rows;
  for (formats::TableRow row; reader->next(row);) {
    rows.push_back({{row.fields.begin(), row.fields.end()}, row.line, row.byte_offset, row.problem});
  }
  return rows;
}

void check_places(const std::vector<Row>& rows, std::string_view text, std::size_t max_row_bytes) {
  std::uint64_t line = 1, offset = 0;
  for (const auto& row : rows) {
    expect(row.byte_offset >= offset && row.byte_offset <= text.size(), "rows follow each other in the file");
    const auto passed = text.substr(offset, row.byte_offset - offset);
    line += static_cast<std::uint64_t>(std::count(passed.begin(), passed.end(), '\n'));
    offset = row.byte_offset;
    expect(row.line == line, "a row's line is that of its offset");
    expect(row.fields.empty() != row.problem.empty(), "a row has fields or a problem");
    expect(row.fields.size() <= formats::kMaxColumns, "a row has at most so many columns");
    for (const auto& field : row.fields)
      expect(field.size() <= max_row_bytes, "a field is no longer than a row may be");
  }
}

/// Rows written as CSV read back.
void check_round_trip(const std::vector<Row>& rows) {
  std::string text(kByteOrderMark);  // so that one in the first field is no mark
  std::vector<std::vector<std::string>> expected, read;
  for (const auto& row : rows) {
    if (!row.problem.empty() || row.fields == std::vector<std::string>{""})
      continue;  // such a line would be blank
    for (const auto& field : row.fields)
      text += (&field == &row.fields.front() ? "" : ",") + formats::csv_field(field);
    text += '\n';
    expected.push_back(row.fields);
  }
  for (const auto& row : rows_of(formats::make_csv_reader, text, formats::kDefaultMaxRowBytes, 0))
    read.push_back(row.fields);
  expect(read == expected, "fields written as CSV read back");
}

}  // namespace

void tables(std::string_view bytes) {
  Input input(bytes);
  const std::uint8_t options = input.byte(), portions = input.byte();
  const Maker make = kMakers[options % std::size(kMakers)];
  const std::size_t max_row_bytes = options >= 0x80 ? options % 64 : formats::kDefaultMaxRowBytes;
  const auto rows = rows_of(make, input.rest(), max_row_bytes, 0);
  expect(rows == rows_of(make, input.rest(), max_row_bytes, portions),
         "rows do not depend on how the bytes arrive");
  check_places(rows, input.rest(), max_row_bytes);
  check_round_trip(rows);
}

}  // namespace muster::fuzz
