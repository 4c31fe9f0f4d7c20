// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstring>

#include "formats/window.h"
#include "muster/formats/table.h"

namespace muster::formats {
namespace {

enum class LineSplit { kWhole, kTabs };

/// TSV rows and plain lines: a row is a physical line.
class LineReader final : public TableReader {
 public:
  LineReader(std::unique_ptr<ByteSource> source, std::size_t max_row_bytes, LineSplit split)
      : window_(std::move(source)), max_row_bytes_(max_row_bytes), split_(split) {
    window_.start();
  }

  bool next(TableRow& row) override {
    row.fields.clear();
    row.problem.clear();
    std::string_view line;
    do {
      row.byte_offset = window_.offset();
      row.line = ++line_;
      if (!read_line(line, row.problem)) return false;
      if (!row.problem.empty()) return true;
    } while (split_ == LineSplit::kTabs && line.empty());  // a plain line may be an item without text
    split_line(line, row);
    return true;
  }

  std::string_view peek() override { return window_.view(); }

 private:
  bool read_line(std::string_view& line, std::string& problem) {
    std::size_t searched = 0;
    for (;;) {
      const auto* newline = searched < window_.size()
                                ? static_cast<const char*>(
                                      std::memchr(window_.data() + searched, '\n', window_.size() - searched))
                                : nullptr;
      const std::size_t length =
          newline != nullptr ? static_cast<std::size_t>(newline - window_.data()) : window_.size();
      if (length > max_row_bytes_) {
        problem = fmt::format("the row is longer than {} bytes", max_row_bytes_);
        window_.skip_line();
        return true;
      }
      if (newline != nullptr || !window_.grow()) {
        if (newline == nullptr && length == 0) return false;
        line = window_.view().substr(0, length);
        if (line.ends_with('\r')) line.remove_suffix(1);
        window_.consume(length + (newline != nullptr ? 1 : 0));
        return true;
      }
      searched = length;
    }
  }

  void split_line(std::string_view line, TableRow& row) const {
    while (split_ == LineSplit::kTabs) {
      const auto tab = line.find('\t');
      if (tab == std::string_view::npos) break;
      row.fields.push_back(line.substr(0, tab));
      line.remove_prefix(tab + 1);
      if (row.fields.size() == kMaxColumns) {
        row.fields.clear();
        row.problem = fmt::format("the row has more than {} columns", kMaxColumns);
        return;
      }
    }
    row.fields.push_back(line);
  }

  Window window_;
  std::size_t max_row_bytes_;
  LineSplit split_;
  std::uint64_t line_ = 0;
};

}  // namespace

std::unique_ptr<TableReader> make_tsv_reader(std::unique_ptr<ByteSource> source, std::size_t max_row_bytes) {
  return std::make_unique<LineReader>(std::move(source), max_row_bytes, LineSplit::kTabs);
}

std::unique_ptr<TableReader> make_line_reader(std::unique_ptr<ByteSource> source, std::size_t max_row_bytes) {
  return std::make_unique<LineReader>(std::move(source), max_row_bytes, LineSplit::kWhole);
}

}  // namespace muster::formats
