// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "muster/core/strings.h"
#include "muster/formats/item_source.h"
#include "muster/formats/json.h"

namespace muster::fuzz {
namespace {

using formats::InputFormat;
constexpr InputFormat kFormats[] = {InputFormat::kTsv, InputFormat::kCsv, InputFormat::kJsonl,
                                    InputFormat::kTxt};

struct Rows {
  std::vector<formats::Item> items;
  std::vector<formats::Reject> rejects;
  std::vector<std::string> files;
};

Rows rows_of(std::string_view file, const formats::InputConfig& config, std::uint8_t portions) {
  const auto source =
      formats::open_text_stream(portioned_source(std::string(file), portions), "fuzz \"in\"", config);
  Rows rows{.items = {}, .rejects = {}, .files = source->files()};
  formats::Item item;
  formats::Reject reject;
  for (;;) {
    const auto kind = source->next(item, reject);
    if (kind == formats::RowKind::kEnd) break;
    if (kind == formats::RowKind::kItem) rows.items.push_back(item);
    if (kind == formats::RowKind::kReject) rows.rejects.push_back(reject);
  }
  expect(source->next(item, reject) == formats::RowKind::kEnd, "the end stays the end");
  return rows;
}

/// All that a job sees of the rows.
std::string summary(const Rows& rows) {
  std::string out;
  for (const auto& item : rows.items) {
    out += std::to_string(item.line) + core::json_quote(item.id) + core::json_quote(item.text) +
           (item.replaced_utf8 ? "!\n" : "\n");
  }
  for (const auto& reject : rows.rejects) out += formats::reject_json_line(reject, rows.files);
  return out;
}

void check_items(const Rows& rows) {
  std::uint64_t row = 0, line = 0;
  for (const auto& item : rows.items) {
    expect(item.row == row++, "items are numbered from 0");
    expect(item.line > line, "items come in the order of their lines");
    line = item.line;
    expect(is_utf8(item.text) && is_utf8(item.id), "texts and ids are valid UTF-8");
    expect(!item.id.empty(), "an item has an id");
    expect((item.text + item.id).find('\0') == std::string::npos, "no NUL comes through");
  }
}

void check_rejects(const Rows& rows) {
  for (const auto& reject : rows.rejects) {
    const auto json = formats::parse_json(formats::reject_json_line(reject, rows.files), "rejects.jsonl");
    expect(json.get<std::uint64_t>("line") == reject.line && reject.line > 0, "a reject names its line");
    expect(json.get<std::uint64_t>("byte_offset") == reject.byte_offset, "a reject names its offset");
    expect(!json.get<std::string>("reason").empty(), "a reject has a reason");
  }
}

/// Items written as JSON lines are the same items.
void check_round_trip(const Rows& rows) {
  std::string text;
  for (const auto& item : rows.items) {
    text += "{\"id\":" + core::json_quote(item.id) + ",\"text\":" + core::json_quote(item.text) + "}\n";
  }
  const auto again = rows_of(text, {.paths = {}, .format = InputFormat::kJsonl}, 0);
  expect(again.rejects.empty() && again.items.size() == rows.items.size(), "every written item is read");
  for (std::size_t i = 0; i < again.items.size(); ++i) {
    expect(again.items[i].id == rows.items[i].id && again.items[i].text == rows.items[i].text,
           "a written item reads back");
  }
}

}  // namespace

void items(std::string_view bytes) {
  Input input(bytes);
  const std::uint8_t options = input.byte(), portions = input.byte();
  formats::InputConfig config{.paths = {}, .format = kFormats[options % 4]};
  if (options & 0x40) config.id_column = options & 0x10 ? "text" : "";
  if (options & 0x20) config.limit = 3;
  if (options & 0x80) config.max_row_bytes = 24;
  const auto rows = unless<core::DataError>([&] { return rows_of(input.rest(), config, 0); });
  const auto pieces = unless<core::DataError>([&] { return rows_of(input.rest(), config, portions); });
  expect(rows.has_value() == pieces.has_value(),
         "whether a file is accepted does not depend on how its bytes arrive");
  if (!rows) return;
  expect(summary(*rows) == summary(*pieces), "rows do not depend on how the bytes arrive");
  expect(rows->items.size() + rows->rejects.size() <= config.limit, "no more rows than the limit");
  check_items(*rows);
  check_rejects(*rows);
  check_round_trip(*rows);
}

}  // namespace muster::fuzz
