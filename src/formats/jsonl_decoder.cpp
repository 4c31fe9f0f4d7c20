// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/json_error.h"
#include "formats/row_decoder.h"
#include "muster/core/strings.h"
#include "muster/formats/json.h"
#include "muster/formats/utf8.h"

namespace muster::formats {
namespace {

constexpr std::size_t kMaxDepth = 64;

/// Picks the members of a line's object that are wanted and lets the rest pass by without storing it.
class LinePicker {
 public:
  struct Field {
    std::optional<JsonKind> kind;  ///< nullopt: absent
    std::string text;              ///< a string, or a number as it is written
  };

  LinePicker(const InputConfig& config)
      : id_key_(config.id_column), text_key_(config.text_column), prompts_(config.prompts.has_value()) {}

  /// An empty reason when `line` is a JSON object.
  std::string parse(std::string_view line) {
    id.kind.reset();
    text.kind.reset();
    for (auto& field : beside) field.kind.reset();
    problem_.clear();
    depth_ = 0;
    current_ = &ignored_;
    if (!nlohmann::json::sax_parse(line.data(), line.data() + line.size(), this) && problem_.empty()) {
      problem_ = "the line is not a JSON object";
    }
    if (id_key_ == text_key_) id = text;
    return problem_;
  }

  Field id, text;
  std::array<Field, kPromptColumns.size()> beside;  ///< of a prompt

  bool null() { return take(JsonKind::kNull); }
  bool boolean(bool) { return take(JsonKind::kBool); }
  bool number_integer(std::int64_t value) {
    return take(JsonKind::kInteger) && keep(fmt::format("{}", value));
  }
  bool number_unsigned(std::uint64_t value) {
    return take(JsonKind::kInteger) && keep(fmt::format("{}", value));
  }
  bool number_float(double, const std::string& written) { return take(JsonKind::kNumber) && keep(written); }
  bool string(const std::string& value) { return take(JsonKind::kString) && keep(value); }
  bool binary(const nlohmann::json::binary_t&) { return false; }  // never called for text
  bool start_object(std::size_t) {
    if (depth_ > 0) return take(JsonKind::kObject) && enter();
    return enter();
  }
  bool start_array(std::size_t) { return take(JsonKind::kArray) && enter(); }
  bool end_object() { return leave(); }
  bool end_array() { return leave(); }

  bool key(const std::string& name) {
    if (depth_ != 1) return true;
    current_ = &field_of(name);
    if (current_ != &ignored_ && current_->kind)
      problem_ = fmt::format("the key '{}' occurs twice", core::printable(name));
    return problem_.empty();
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) {
    problem_ = fmt::format("broken JSON at byte {} of the line: {}", position, json_error_text(error));
    return false;
  }

 private:
  Field& field_of(const std::string& name) {
    if (name == text_key_) return text;
    if (name == id_key_ && !id_key_.empty()) return id;
    const auto known = std::find(kPromptColumns.begin(), kPromptColumns.end(), name);
    if (!prompts_ || known == kPromptColumns.end()) return ignored_;
    return beside[static_cast<std::size_t>(known - kPromptColumns.begin())];
  }

  /// A value begins. Only members of the outermost object count; a line that is no object ends here.
  bool take(JsonKind kind) {
    if (depth_ == 0) return false;
    if (depth_ == 1) current_->kind = kind;
    return true;
  }
  bool keep(const std::string& value) {
    if (depth_ == 1 && current_ != &ignored_) current_->text = value;
    return true;
  }
  bool enter() {
    if (++depth_ > kMaxDepth) problem_ = fmt::format("the line is nested deeper than {} levels", kMaxDepth);
    return problem_.empty();
  }
  bool leave() {
    --depth_;
    return true;
  }

  const std::string& id_key_;
  const std::string& text_key_;
  const bool prompts_;
  Field ignored_;
  Field* current_ = &ignored_;
  std::size_t depth_ = 0;
  std::string problem_;
};

std::optional<unsigned> read_hex4(std::string_view text) {
  if (text.size() < 4) return std::nullopt;
  unsigned value = 0;
  for (const char c : text.substr(0, 4)) {
    if (std::isxdigit(static_cast<unsigned char>(c)) == 0) return std::nullopt;
    value = value * 16 + static_cast<unsigned>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  return value;
}

/// Escapes of lone surrogates (Python writes them for text that was not valid Unicode) become \ufffd. Returns
/// whether there were any.
bool replace_lone_surrogates(std::string& line) {
  bool found = false;
  const std::string_view view = line;
  for (std::size_t at = line.find('\\'); at != std::string::npos; at = line.find('\\', at)) {
    const auto unit = view.substr(at).starts_with("\\u") ? read_hex4(view.substr(at + 2)) : std::nullopt;
    if (!unit) {
      at += 2;  // the escaped character, perhaps a backslash, is not the start of an escape
      continue;
    }
    const bool is_high = *unit >= 0xD800 && *unit <= 0xDBFF;
    const bool is_low = *unit >= 0xDC00 && *unit <= 0xDFFF;
    const auto rest = view.substr(at + 6);
    const auto low = is_high && rest.starts_with("\\u") ? read_hex4(rest.substr(2)) : std::nullopt;
    if (low && *low >= 0xDC00 && *low <= 0xDFFF) {
      at += 12;
      continue;
    }
    if (is_high || is_low) {
      line.replace(at, 6, "\\ufffd");
      found = true;
    }
    at += 6;
  }
  return found;
}

class JsonlDecoder final : public RowDecoder {
 public:
  JsonlDecoder(std::unique_ptr<ByteSource> text, const InputConfig& config)
      : config_(config), lines_(make_line_reader(std::move(text), config.max_row_bytes)) {
    guess_id_origin();
  }

  RowKind next(Item& item, Reject& reject) override {
    do {
      if (!lines_->next(row_)) return RowKind::kEnd;
      if (!row_.problem.empty()) return reject_row(row_, row_.problem, reject);
    } while (core::trim(row_.fields[0]).empty());
    return decode(item, reject);
  }
  IdOrigin id_origin() const override { return id_origin_; }

 private:
  /// Rows may lack ids, but then all of a file's rows do: a lost id must not go unseen.
  void guess_id_origin() {
    id_origin_ = IdOrigin::kIndex;
    if (config_.id_column.empty()) return;
    const auto front = make_line_reader(memory_source(whole_lines(lines_->peek())), config_.max_row_bytes);
    TableRow row;
    int seen = 0;
    for (int i = 0; i < kSampledRows && front->next(row); ++i) {
      if (!row.problem.empty() || !parse(row.fields[0]).empty()) continue;
      ++seen;
      if (has_id()) id_origin_ = IdOrigin::kRow;
    }
    if (seen == 0) id_origin_ = IdOrigin::kRow;
  }

  bool has_id() const { return picker_.id.kind.value_or(JsonKind::kNull) != JsonKind::kNull; }

  std::string parse(std::string_view line) {
    was_replaced_ = !is_valid_utf8(line);
    if (was_replaced_) {
      assign_utf8_replaced(line, repaired_);
      line = repaired_;
    }
    // The parser would take a NUL for the end and never look at what follows.
    if (line.find('\0') != std::string_view::npos) return "the line holds a NUL byte";
    std::string problem = picker_.parse(line);
    if (problem.empty()) return problem;
    repaired_ = std::string(line);
    if (!replace_lone_surrogates(repaired_)) return problem;
    was_replaced_ = true;
    return picker_.parse(repaired_);
  }

  RowKind decode(Item& item, Reject& reject) {
    const auto refuse = [&](std::string reason) { return reject_row(row_, std::move(reason), reject); };
    const std::string problem = parse(row_.fields[0]);
    if (!problem.empty()) return refuse(problem);
    const auto& [id_kind, id] = picker_.id;
    if (has_id()) {
      if (id_kind != JsonKind::kString && id_kind != JsonKind::kInteger && id_kind != JsonKind::kNumber) {
        return refuse(fmt::format("'{}' is {}, not a string or number", id_key(), json_kind_name(*id_kind)));
      }
      reject.id = id;
      if (id_origin_ == IdOrigin::kIndex) {
        return refuse(
            fmt::format("the key '{}' is given, but the first rows of the file have none", id_key()));
      }
    } else if (id_origin_ == IdOrigin::kRow) {
      return refuse(fmt::format("the key '{}' is missing", id_key()));
    }
    const auto text_kind = picker_.text.kind.value_or(JsonKind::kNull);
    if (text_kind == JsonKind::kNull) return refuse(fmt::format("the key '{}' is missing", text_key()));
    if (text_kind != JsonKind::kString) {
      return refuse(fmt::format("'{}' is {}, not a string", text_key(), json_kind_name(text_kind)));
    }
    return accept(item, reject);
  }

  RowKind accept(Item& item, Reject& reject) {
    const auto holds_replacement = [&](const std::string& value) {
      return was_replaced_ && value.find("\xEF\xBF\xBD") != std::string::npos;
    };
    if (id_origin_ == IdOrigin::kRow && holds_replacement(picker_.id.text)) {
      return reject_row(row_, "the id is not valid UTF-8", reject);
    }
    const RowKind kind = accept_row(row_, id_origin_, picker_.id.text, picker_.text.text, item, reject);
    item.replaced_utf8 = holds_replacement(picker_.text.text);
    return config_.prompts && kind == RowKind::kItem ? accept_beside(item, reject) : kind;
  }

  /// What a prompt has beside it: numbers may be strings, too; null is absent.
  RowKind accept_beside(Item& item, Reject& reject) {
    PromptCells cells;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const auto& [kind, text] = picker_.beside[i];
      if (!kind || kind == JsonKind::kNull) continue;
      const bool is_number = kind == JsonKind::kInteger || kind == JsonKind::kNumber;
      const bool wants_text = kPromptColumns[i] == "negative_prompt";
      if (kind != JsonKind::kString && (wants_text || !is_number)) {
        reject.id = item.id;
        return reject_row(row_,
                          fmt::format("'{}' is {}, not a {}", kPromptColumns[i], json_kind_name(*kind),
                                      wants_text ? "string" : "number"),
                          reject);
      }
      cells[i] = text;
    }
    return accept_prompt(row_, RowKind::kItem, cells, item, reject);
  }

  std::string id_key() const { return core::printable(config_.id_column); }
  std::string text_key() const { return core::printable(config_.text_column); }

  const InputConfig config_;
  std::unique_ptr<TableReader> lines_;
  TableRow row_;
  LinePicker picker_{config_};
  IdOrigin id_origin_ = IdOrigin::kRow;
  bool was_replaced_ = false;
  std::string repaired_;
};

}  // namespace

std::unique_ptr<RowDecoder> make_jsonl_decoder(std::unique_ptr<ByteSource> text, const InputConfig& config) {
  return std::make_unique<JsonlDecoder>(std::move(text), config);
}

}  // namespace muster::formats
