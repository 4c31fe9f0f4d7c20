// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "muster/formats/byte_source.h"

namespace muster::formats {

/// Longer rows are rejected; a reader's memory is bounded by about twice this.
inline constexpr std::size_t kDefaultMaxRowBytes = std::size_t{16} << 20;

/// Rows with more are rejected.
inline constexpr std::size_t kMaxColumns = 4096;

struct TableRow {
  std::vector<std::string_view> fields;  ///< raw bytes, valid until the next row is read
  std::uint64_t line = 0;                ///< 1-based physical line where the row starts
  std::uint64_t byte_offset = 0;         ///< in the decompressed file
  std::string problem;                   ///< one sentence when the row cannot be split; it then has no fields
};

/// Rows of a file one after another. A byte-order mark and CRLF are accepted, blank lines are skipped. A
/// broken row is reported in its place and never ends the stream.
class TableReader {
 public:
  virtual ~TableReader() = default;
  virtual bool next(TableRow& row) = 0;
  /// Bytes that are buffered but not read yet, for guessing; at least one block unless the file is shorter.
  virtual std::string_view peek() = 0;
};

/// One row a line, fields between tabs, no quoting.
std::unique_ptr<TableReader> make_tsv_reader(std::unique_ptr<ByteSource> source,
                                             std::size_t max_row_bytes = kDefaultMaxRowBytes);
/// Each line is one field.
std::unique_ptr<TableReader> make_line_reader(std::unique_ptr<ByteSource> source,
                                              std::size_t max_row_bytes = kDefaultMaxRowBytes);
/// RFC 4180: quoted fields may hold commas, doubled quotes and line breaks. After broken quoting the reader
/// goes on at the next physical line, so that one lost quote costs the lines it touches and not the rest of
/// the file.
std::unique_ptr<TableReader> make_csv_reader(std::unique_ptr<ByteSource> source,
                                             std::size_t max_row_bytes = kDefaultMaxRowBytes);

/// `field` as it must be written to a CSV file (RFC 4180): in quotes when it holds a quote, comma, CR or LF.
std::string csv_field(std::string_view field);

}  // namespace muster::formats
