// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "formats/window.h"
#include "muster/formats/table.h"

namespace muster::formats {
namespace {

/// RFC 4180 over a Window. A row is scanned where it lies; positions count from its start, because the buffer
/// may move while the row grows.
class CsvReader final : public TableReader {
 public:
  CsvReader(std::unique_ptr<ByteSource> source, std::size_t max_row_bytes)
      : window_(std::move(source)), max_row_bytes_(max_row_bytes) {
    window_.start();
  }

  bool next(TableRow& row) override {
    row.fields.clear();
    row.problem.clear();
    for (;;) {
      row.line = line_;
      row.byte_offset = window_.offset();
      if (!window_.reach(0)) return false;
      After after = After::kField;
      spans_.clear();
      for (at_ = 0; after == After::kField;) after = read_field(row.problem);
      if (after == After::kBroken) {
        ++line_;
        window_.skip_line();
        return true;
      }
      const bool is_blank =
          spans_.size() == 1 && spans_[0].quoting == Quoting::kNone && spans_[0].begin == spans_[0].end;
      finish_row(row.fields);
      if (!is_blank) return true;
      row.fields.clear();
    }
  }

  std::string_view peek() override { return window_.view(); }

 private:
  enum class After { kField, kRow, kBroken };  ///< what comes after a field
  enum class Quoting { kNone, kPlain, kDoubledQuotes };
  struct Span {
    std::size_t begin, end;
    Quoting quoting;
  };

  After read_field(std::string& problem) {
    if (spans_.size() == kMaxColumns) {
      problem = fmt::format("the row has more than {} columns", kMaxColumns);
      return After::kBroken;
    }
    if (window_.reach(at_) && window_.data()[at_] == '"') return read_quoted(problem);
    return read_unquoted(problem);
  }

  After read_unquoted(std::string& problem) {
    const std::size_t begin = at_;
    for (;;) {
      const char* data = window_.data();
      const std::size_t size = window_.size();
      while (at_ < size && data[at_] != ',' && data[at_] != '\n' && data[at_] != '"') ++at_;
      if (at_ > max_row_bytes_) return too_long(problem);
      if (at_ < size || !window_.grow()) break;
    }
    const char stop =
        at_ < window_.size() ? window_.data()[at_] : '\n';  // the end of the file ends a row, too
    if (stop == '"') {
      problem = fmt::format("column {} holds a quote but does not start with one", spans_.size() + 1);
      return After::kBroken;
    }
    std::size_t end = at_;
    if (stop == '\n' && end > begin && window_.data()[end - 1] == '\r') --end;
    spans_.push_back({begin, end, Quoting::kNone});
    at_ = std::min(at_ + 1, window_.size());
    return stop == ',' ? After::kField : After::kRow;
  }

  After read_quoted(std::string& problem) {
    const std::size_t begin = ++at_;
    Quoting quoting = Quoting::kPlain;
    for (;;) {
      if (!find_quote()) {
        if (at_ > max_row_bytes_) return too_long(problem);
        problem = fmt::format("the quote that opens column {} is never closed", spans_.size() + 1);
        return After::kBroken;
      }
      if (!window_.reach(at_ + 1) || window_.data()[at_ + 1] != '"') break;
      quoting = Quoting::kDoubledQuotes;
      at_ += 2;
    }
    spans_.push_back({begin, at_, quoting});
    return after_quoted(problem);
  }

  /// Moves at_ to the next quote; false at the end or beyond the longest row.
  bool find_quote() {
    for (;;) {
      if (at_ < window_.size()) {
        const void* quote = std::memchr(window_.data() + at_, '"', window_.size() - at_);
        at_ = quote != nullptr ? static_cast<std::size_t>(static_cast<const char*>(quote) - window_.data())
                               : window_.size();
        if (at_ > max_row_bytes_) return false;
        if (quote != nullptr) return true;
      }
      if (!window_.grow()) return false;
    }
  }

  After after_quoted(std::string& problem) {
    ++at_;
    if (!window_.reach(at_)) return After::kRow;
    if (window_.data()[at_] == '\r' && (!window_.reach(at_ + 1) || window_.data()[at_ + 1] == '\n')) ++at_;
    if (at_ >= window_.size()) return After::kRow;
    const char c = window_.data()[at_++];
    if (c == ',') return After::kField;
    if (c == '\n') return After::kRow;
    problem = fmt::format("column {} goes on after its closing quote", spans_.size());
    return After::kBroken;
  }

  After too_long(std::string& problem) const {
    problem = fmt::format("the row is longer than {} bytes", max_row_bytes_);
    return After::kBroken;
  }

  void finish_row(std::vector<std::string_view>& fields) {
    char* const data = window_.data();
    const bool may_span_lines =
        std::any_of(spans_.begin(), spans_.end(), [](const Span& s) { return s.quoting != Quoting::kNone; });
    line_ += may_span_lines ? static_cast<std::uint64_t>(std::count(data, data + at_, '\n')) : 1;
    for (const Span& span : spans_) {
      const std::size_t end = span.quoting == Quoting::kDoubledQuotes ? halve_quotes(data, span) : span.end;
      fields.emplace_back(data + span.begin, end - span.begin);
    }
    window_.consume(at_);
  }

  /// "" becomes ", in place; returns the new end.
  static std::size_t halve_quotes(char* data, const Span& span) {
    std::size_t to = span.begin;
    for (std::size_t from = span.begin; from < span.end; ++from) {
      data[to++] = data[from];
      if (data[from] == '"') ++from;
    }
    return to;
  }

  Window window_;
  std::size_t max_row_bytes_;
  std::uint64_t line_ = 1;
  std::size_t at_ = 0;
  std::vector<Span> spans_;
};

}  // namespace

std::unique_ptr<TableReader> make_csv_reader(std::unique_ptr<ByteSource> source, std::size_t max_row_bytes) {
  return std::make_unique<CsvReader>(std::move(source), max_row_bytes);
}

std::string csv_field(std::string_view field) {
  if (field.find_first_of("\",\r\n") == std::string_view::npos) return std::string(field);
  std::string out = "\"";
  for (const char c : field) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

}  // namespace muster::formats
