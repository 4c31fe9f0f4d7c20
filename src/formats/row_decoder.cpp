// SPDX-License-Identifier: Apache-2.0
#include "formats/row_decoder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "muster/core/error.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "muster/formats/utf8.h"

namespace muster::formats {
namespace {

constexpr std::size_t kNoColumn = SIZE_MAX;

class TxtDecoder final : public RowDecoder {
 public:
  TxtDecoder(std::unique_ptr<TableReader> lines, const InputConfig& config)
      : prompts_(config.prompts.has_value()), lines_(std::move(lines)) {}

  RowKind next(Item& item, Reject& reject) override {
    if (!lines_->next(row_)) return RowKind::kEnd;
    if (!row_.problem.empty()) return reject_row(row_, row_.problem, reject);
    const auto kind = accept_row(row_, IdOrigin::kIndex, {}, row_.fields[0], item, reject);
    return prompts_ ? accept_prompt(row_, kind, {}, item, reject) : kind;
  }
  IdOrigin id_origin() const override { return IdOrigin::kIndex; }

 private:
  bool prompts_;
  std::unique_ptr<TableReader> lines_;
  TableRow row_;
};

/// Texts of a command line or a config file.
class InlineDecoder final : public RowDecoder {
 public:
  explicit InlineDecoder(const InputConfig& config) : config_(config) {}

  RowKind next(Item& item, Reject& reject) override {
    if (row_.line == config_.texts.size()) return RowKind::kEnd;
    const auto& text = config_.texts[row_.line++];
    const auto kind = accept_row(row_, IdOrigin::kIndex, {}, text, item, reject);
    return config_.prompts ? accept_prompt(row_, kind, {}, item, reject) : kind;
  }
  IdOrigin id_origin() const override { return IdOrigin::kIndex; }

 private:
  const InputConfig config_;
  TableRow row_;
};

using ReaderMaker = std::unique_ptr<TableReader> (*)(std::unique_ptr<ByteSource>, std::size_t);

/// TSV and CSV.
class TableDecoder final : public RowDecoder {
 public:
  TableDecoder(ReaderMaker make_reader, std::unique_ptr<ByteSource> text, const std::string& name,
               const InputConfig& config)
      : config_(config), name_(name), reader_(make_reader(std::move(text), config.max_row_bytes)) {
    guess_columns(*make_reader(memory_source(whole_lines(reader_->peek())), config.max_row_bytes));
    is_first_row_pending_ = reader_->next(row_) && !read_header();
  }

  RowKind next(Item& item, Reject& reject) override {
    if (!std::exchange(is_first_row_pending_, false) && !reader_->next(row_)) return RowKind::kEnd;
    return decode(item, reject);
  }

  IdOrigin id_origin() const override { return id_ == kNoColumn ? IdOrigin::kIndex : IdOrigin::kRow; }
  std::string remark() const override { return remark_; }

 private:
  RowKind decode(Item& item, Reject& reject) {
    if (!row_.problem.empty()) return reject_row(row_, row_.problem, reject);
    if (row_.fields.size() != columns_) {
      if (id_ < row_.fields.size()) assign_utf8_replaced(row_.fields[id_], reject.id);
      return reject_row(
          row_, fmt::format("the row has {} columns; {} are expected", row_.fields.size(), columns_), reject);
    }
    const auto holds_nul = [](std::string_view field) { return field.find('\0') != std::string_view::npos; };
    const auto nul = std::find_if(row_.fields.begin(), row_.fields.end(), holds_nul);
    if (nul != row_.fields.end()) {
      return reject_row(row_, fmt::format("column {} holds a NUL byte", nul - row_.fields.begin() + 1),
                        reject);
    }
    const auto kind = accept_row(row_, id_origin(), id_ == kNoColumn ? std::string_view() : row_.fields[id_],
                                 row_.fields[text_], item, reject);
    return config_.prompts ? accept_prompt(row_, kind, cells(), item, reject) : kind;
  }

  /// An empty cell is absent.
  PromptCells cells() const {
    PromptCells cells;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (prompt_columns_[i] != kNoColumn && !row_.fields[prompt_columns_[i]].empty())
        cells[i] = row_.fields[prompt_columns_[i]];
    }
    return cells;
  }

  /// Without a header two columns are id and text. One column is text, but only when no row at the front says
  /// otherwise, so that a damaged first row cannot decide it.
  void guess_columns(TableReader& front) {
    TableRow row;
    int seen = 0;
    bool all_single = true;
    for (int i = 0; i < kSampledRows && front.next(row); ++i) {
      if (!row.problem.empty()) continue;
      ++seen;
      all_single = all_single && row.fields.size() == 1;
    }
    if (seen > 0 && all_single) {
      set_columns(1, kNoColumn, 0);
    } else {
      set_columns(2, config_.id_column.empty() ? kNoColumn : 0, 1);
    }
  }

  void set_columns(std::size_t count, std::size_t id, std::size_t text) {
    columns_ = count;
    id_ = id;
    text_ = text;
  }

  std::size_t find_column(const std::string& column) const {
    if (column.empty()) return kNoColumn;
    const auto& fields = row_.fields;
    const auto count = std::count(fields.begin(), fields.end(), column);
    if (count > 1) {
      throw core::DataError(
          fmt::format("{}: the column '{}' occurs {} times in the header", name_, column, count));
    }
    return count == 0
               ? kNoColumn
               : static_cast<std::size_t>(std::find(fields.begin(), fields.end(), column) - fields.begin());
  }

  /// A row of one or two cells that names columns, but not the text column as it is spelt: nobody wants
  /// pictures of "Prompt" and "Seed".
  bool is_meant_as_header() const {
    const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
    const auto is_called = [&](std::string_view cell, std::string_view column) {
      return !column.empty() && std::ranges::equal(core::trim(cell), column, {}, lower, lower);
    };
    if (row_.fields.size() == 1) {
      std::string cells(row_.fields[0]);  // with another separator, too
      std::replace_if(
          cells.begin(), cells.end(), [](char c) { return c == ';' || c == '|' || c == '\t'; }, ',');
      const auto names = core::split(cells, ',');
      return std::any_of(names.begin(), names.end(),
                         [&](const auto& name) { return is_called(name, config_.text_column); });
    }
    return std::any_of(row_.fields.begin(), row_.fields.end(), [&](std::string_view cell) {
      return is_called(cell, config_.text_column) || is_called(cell, config_.id_column) ||
             std::any_of(kPromptColumns.begin(), kPromptColumns.end(),
                         [&](std::string_view column) { return is_called(cell, column); });
    });
  }

  /// The same for prompts: the text column's name makes a header, and so do several columns, because without
  /// one they would have no meaning.
  bool read_prompt_header() {
    const std::size_t count = row_.fields.size(), text = find_column(config_.text_column);
    if (!row_.problem.empty() || (text == kNoColumn && count <= 2 && !is_meant_as_header())) return false;
    if (text == kNoColumn)
      throw core::DataError(fmt::format("{}: the column '{}' is not in the header ({}); set input.text",
                                        name_, config_.text_column, columns_text()));
    set_columns(count, find_column(config_.id_column), text);
    std::vector<std::string> ignored;
    for (std::size_t i = 0; i < kPromptColumns.size(); ++i)
      prompt_columns_[i] = find_column(std::string(kPromptColumns[i]));
    for (std::size_t i = 0; i < count; ++i) {
      if (i != id_ && i != text_ && std::count(prompt_columns_.begin(), prompt_columns_.end(), i) == 0)
        ignored.push_back("'" + core::printable(row_.fields[i], 40) + "'");
    }
    if (!ignored.empty())
      remark_ = fmt::format("{}: nothing is read from the columns {}; those of prompts are {}, {}, {}", name_,
                            core::join(ignored, ", "), config_.id_column, config_.text_column,
                            fmt::join(kPromptColumns, ", "));
    return true;
  }

  /// Whether row_ is a header; then it selects the columns.
  bool read_header() {
    if (config_.prompts) return read_prompt_header();
    const std::size_t count = row_.fields.size();
    const std::size_t id = find_column(config_.id_column);
    const std::size_t text = find_column(config_.text_column);
    if (text != kNoColumn && (id != kNoColumn || config_.id_column.empty() || count == 1)) {
      set_columns(count, id, text);
      return true;
    }
    if (id == kNoColumn && text == kNoColumn) return false;
    const std::string& found = text != kNoColumn ? config_.text_column : config_.id_column;
    const std::string& missing = text != kNoColumn ? config_.id_column : config_.text_column;
    if (count == 2) {
      core::log::warning(
          "{}: the first line names '{}' but not '{}'; it is taken as an item (id and text), not as a header",
          name_, found, missing);
      return false;
    }
    throw core::DataError(fmt::format("{}: the column '{}' is not in the header ({}); set input.{}", name_,
                                      missing, columns_text(), text != kNoColumn ? "id" : "text"));
  }

  std::string columns_text() const {
    std::vector<std::string> shown;
    for (const auto field : row_.fields) shown.push_back("'" + core::printable(field, 40) + "'");
    constexpr std::size_t kShown = 20;
    if (shown.size() > kShown) {
      shown.resize(kShown);
      shown.emplace_back("...");
    }
    return core::join(shown, ", ");
  }

  InputConfig config_;
  std::string name_;
  std::unique_ptr<TableReader> reader_;
  TableRow row_;
  bool is_first_row_pending_ = false;
  std::size_t columns_ = 2, id_ = 0, text_ = 1;
  std::array<std::size_t, kPromptColumns.size()> prompt_columns_ = no_columns();
  std::string remark_;

  static std::array<std::size_t, kPromptColumns.size()> no_columns() {
    std::array<std::size_t, kPromptColumns.size()> columns;
    columns.fill(kNoColumn);
    return columns;
  }
};

}  // namespace

RowKind RowDecoder::accept_prompt(const TableRow& row, RowKind kind, const PromptCells& cells, Item& item,
                                  Reject& reject) {
  if (kind != RowKind::kItem) return kind;
  prompt_.row.prompt = item.text;
  std::string problem = read_prompt_cells(cells, prompt_);
  if (problem.empty()) return kind;
  reject.id = item.id;
  return reject_row(row, std::move(problem), reject);
}

std::string whole_lines(std::string_view buffered) {
  const auto last = buffered.rfind('\n');
  return std::string(last == std::string_view::npos ? buffered : buffered.substr(0, last + 1));
}

RowKind reject_row(const TableRow& row, std::string reason, Reject& reject) {
  reject.line = row.line;
  reject.byte_offset = row.byte_offset;
  reject.reason = std::move(reason);
  return RowKind::kReject;
}

RowKind accept_row(const TableRow& row, IdOrigin origin, std::string_view id, std::string_view text,
                   Item& item, Reject& reject) {
  if (origin == IdOrigin::kRow) {
    if (id.empty()) return reject_row(row, "the id is empty", reject);
    if (id.find('\0') != std::string_view::npos) return reject_row(row, "the id holds a NUL byte", reject);
    if (!is_valid_utf8(id)) {
      assign_utf8_replaced(id, reject.id);
      return reject_row(row, "the id is not valid UTF-8", reject);
    }
  }
  if (text.find('\0') != std::string_view::npos) {
    reject.id = id;
    return reject_row(row, "the text holds a NUL byte", reject);
  }
  item.id = id;
  item.replaced_utf8 = assign_utf8_replaced(text, item.text) > 0;
  item.line = row.line;
  return RowKind::kItem;
}

std::unique_ptr<RowDecoder> make_inline_decoder(const InputConfig& config) {
  return std::make_unique<InlineDecoder>(config);
}

std::unique_ptr<RowDecoder> make_row_decoder(InputFormat format, std::unique_ptr<ByteSource> text,
                                             const std::string& name, const InputConfig& config) {
  switch (format) {
    case InputFormat::kTsv:
      return std::make_unique<TableDecoder>(make_tsv_reader, std::move(text), name, config);
    case InputFormat::kCsv:
      return std::make_unique<TableDecoder>(make_csv_reader, std::move(text), name, config);
    case InputFormat::kTxt:
      return std::make_unique<TxtDecoder>(make_line_reader(std::move(text), config.max_row_bytes), config);
    case InputFormat::kJsonl:
      return make_jsonl_decoder(std::move(text), config);
    case InputFormat::kAuto:
    case InputFormat::kHdf5:
      break;
  }
  throw core::InternalError("no row decoder for this format");
}

}  // namespace muster::formats
