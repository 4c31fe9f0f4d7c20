// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "muster/core/strings.h"
#include "muster/formats/item_source.h"
#include "muster/formats/prompt_row.h"

namespace muster::fuzz {
namespace {

using formats::InputFormat;
constexpr InputFormat kFormats[] = {InputFormat::kTsv, InputFormat::kCsv, InputFormat::kJsonl,
                                    InputFormat::kTxt};
constexpr std::size_t kMostItems = 2000;  // a count may be a million

std::vector<formats::Item> prompts_of(std::string_view file, InputFormat format, std::uint8_t portions) {
  formats::InputConfig config{.paths = {}, .format = format};
  config.text_column = "prompt";
  config.prompts = formats::PromptInput{.count = 2};
  const auto source =
      formats::open_text_stream(portioned_source(std::string(file), portions), "fuzz", config);
  std::vector<formats::Item> items;
  formats::Item item;
  formats::Reject reject;
  while (items.size() < kMostItems) {
    const auto kind = source->next(item, reject);
    if (kind == formats::RowKind::kEnd) break;
    if (kind == formats::RowKind::kReject) expect(!reject.reason.empty(), "a reject has a reason");
    if (kind == formats::RowKind::kItem) items.push_back(item);
  }
  return items;
}

std::string json_line(const formats::PromptRow& row) {
  auto alone = row;
  alone.row = 0;
  std::string line = formats::to_json(alone);
  return line.substr(0, line.size() - 1) + ",\"count\":1}\n";
}

}  // namespace

void prompts(std::string_view bytes) {
  Input input(bytes);
  const std::uint8_t options = input.byte(), portions = input.byte();
  const auto format = kFormats[options % 4];
  const auto items = unless<core::DataError>([&] { return prompts_of(input.rest(), format, 0); });
  const auto pieces = unless<core::DataError>([&] { return prompts_of(input.rest(), format, portions); });
  expect(items.has_value() == pieces.has_value(),
         "whether a file is accepted does not depend on how its bytes arrive");
  if (!items) return;
  expect(items->size() == pieces->size(), "rows do not depend on how the bytes arrive");
  std::string lines;
  for (std::size_t i = 0; i < items->size(); ++i) {
    const auto& item = (*items)[i];
    expect(item.row == i && item.text == (*pieces)[i].text,
           "items are numbered, and the same in any portions");
    const auto row = formats::parse_prompt_row(item.text);
    expect(formats::to_json(row) == item.text, "one spelling of a prompt");
    expect(row.id == item.id && !row.id.empty() && is_utf8(row.prompt), "an item has its id and valid text");
    lines += json_line(row);
  }
  const auto again = prompts_of(lines, InputFormat::kJsonl, 0);
  expect(again.size() == items->size(), "what is written as JSON lines is read");
  for (std::size_t i = 0; i < again.size(); ++i) {
    auto before = formats::parse_prompt_row((*items)[i].text),
         after = formats::parse_prompt_row(again[i].text);
    before.row = after.row;
    before.copy = after.copy;
    expect(before == after, "a prompt reads back");
  }
}

}  // namespace muster::fuzz
