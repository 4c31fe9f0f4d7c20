// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "muster/formats/byte_source.h"
#include "muster/formats/table.h"

namespace muster::formats {

enum class InputFormat { kAuto, kTsv, kCsv, kJsonl, kTxt, kHdf5 };
/// "auto|tsv|csv|jsonl|txt|hdf5"; throws ConfigError.
InputFormat input_format_from_name(const std::string& name);
/// What kAuto takes the file for; ConfigError when the name says nothing.
InputFormat input_format_of_path(const std::string& path);
/// The files behind paths and globs, in order (a glob's sorted by name); DataError when one matches nothing
/// or is a folder.
std::vector<std::string> expand_input_paths(const std::vector<std::string>& paths);

/// Rows are prompts for pictures: beside id and text they may have the columns (JSONL: keys) negative_prompt,
/// seed, width, height, steps, guidance and count. A row gives `count` items, with the ids ID, ID_1, ID_2,
/// ...; an item's text is a PromptRow as JSON. A row with a value that cannot be used is rejected.
struct PromptInput {
  std::uint32_t count = 1;  ///< of rows that do not say it
};

/// What to read: files, globs or lists of either, in order; each may be gzipped whatever its name.
struct InputConfig {
  std::vector<std::string> paths;
  /// One for each path, put before the ids of its rows, so that files which both count from 0 can be read
  /// together; empty: none.
  std::vector<std::string> id_prefixes;
  std::vector<std::string> texts;      ///< rows given as they are, in the place of `paths`
  std::optional<PromptInput> prompts;  ///< nullopt: rows are texts
  InputFormat format =
      InputFormat::kAuto;        ///< kAuto goes by the name (.tsv .csv .jsonl .txt .h5/.hdf5, before .gz)
  std::string id_column = "id";  ///< empty: ids are indexes whatever the file holds
  std::string text_column = "text";
  std::uint64_t limit = UINT64_MAX;                 ///< the first N accepted-or-rejected rows only
  std::size_t max_row_bytes = kDefaultMaxRowBytes;  ///< longer rows are rejected
};

/// The id prefix of each file that expand_input_paths finds. ConfigError when there are prefixes, but not one
/// for each path.
std::vector<std::string> expand_id_prefixes(const InputConfig& config);

/// One accepted item. `row` counts accepted items from 0 and is the item's place in every result.
struct Item {
  std::uint64_t row = 0;
  std::string id;
  std::string text;            ///< valid UTF-8
  std::uint64_t line = 0;      ///< 1-based physical line where the row starts, in `file`
  std::uint32_t file = 0;      ///< index into ItemSource::files()
  bool replaced_utf8 = false;  ///< invalid bytes became U+FFFD
};

/// A row that cannot be an item: wrong column count, NUL byte, broken JSON, missing key, duplicate id.
struct Reject {
  std::uint64_t line = 0;
  std::uint64_t byte_offset = 0;  ///< in the uncompressed file
  std::uint32_t file = 0;
  std::string reason;  ///< one sentence
  std::string id;      ///< where known
};

enum class RowKind { kItem, kReject, kEnd };

/// Items in input order, one after another, in bounded memory. Damaged rows are rejected one by one and never
/// end the stream; a damaged file (gzip error, unreadable) throws DataError with path and offset.
class ItemSource {
 public:
  virtual ~ItemSource() = default;
  /// Fills `item` or `reject`. Reuses their strings.
  virtual RowKind next(Item& item, Reject& reject) = 0;
  virtual const std::vector<std::string>& files() const = 0;
  /// What a person should be told about the files opened so far, though their rows are good.
  virtual std::vector<std::string> remarks() const { return {}; }
};

/// Text formats (not HDF5, which is io's). Does not look for duplicate ids.
/// DataError when a path or glob matches nothing or a configured column is not in a header.
///
/// Rows: TXT is one item a line, empty lines too. TSV, CSV and JSONL skip empty lines. In TSV and CSV a first
/// row that holds both column names is the header of its file, and so is the text column's name alone on its
/// line; otherwise two columns are id and text, one column is text. JSONL rows are objects with a string
/// under the text key and a string or number under the id key. An item without an id column (or key) has its
/// row's index over all files as id; rejected rows are counted in it, so that ids do not move when a row is
/// repaired. Ids are never altered: one that is empty or not valid UTF-8 rejects its row. Prompts need no id
/// column beside their header: a first row with the text column's name is one.
std::unique_ptr<ItemSource> open_text_source(const InputConfig& config);
/// The same from one stream, which may be gzipped; `name` goes into messages and files().
std::unique_ptr<ItemSource> open_text_stream(std::unique_ptr<ByteSource> bytes, const std::string& name,
                                             const InputConfig& config);

/// One line of rejects.jsonl, with its newline.
std::string reject_json_line(const Reject& reject, const std::vector<std::string>& files);

}  // namespace muster::formats
