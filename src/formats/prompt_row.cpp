// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/prompt_row.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>

#include "formats/prompt_cells.h"
#include "muster/core/strings.h"
#include "muster/formats/json.h"
#include "muster/formats/utf8.h"

namespace muster::formats {
namespace {

constexpr double kMostExact = 9007199254740992.0;  // 2^53: whole numbers a double has all of
constexpr std::uint32_t kMostSide = 65536, kMostSteps = 100'000;
constexpr double kMostGuidance = 1000;

template <class T>
std::optional<T> parsed(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Whole numbers; 512.0 is one, too: tables with gaps come out of some programs like that.
std::optional<std::uint64_t> whole_number(std::string_view text) {
  if (const auto value = parsed<std::uint64_t>(text)) return value;
  const auto value = parsed<double>(text);
  if (!value || !(*value >= 0) || *value > kMostExact || *value != std::floor(*value)) return std::nullopt;
  return static_cast<std::uint64_t>(*value);
}

/// A cell after another; the first problem stays.
class Cells {
 public:
  explicit Cells(const PromptCells& cells) : cells_(cells) {}

  std::optional<std::uint64_t> number(std::uint64_t least, std::uint64_t most) {
    const auto text = next();
    if (!text) return std::nullopt;
    const auto value = whole_number(*text);
    if (value && *value >= least && *value <= most) return value;
    refuse(*text, fmt::format("a whole number from {} to {} is expected", least, most));
    return std::nullopt;
  }

  std::optional<std::uint32_t> small_number(std::uint32_t most) {
    const auto value = number(1, most);
    return value ? std::optional(static_cast<std::uint32_t>(*value)) : std::nullopt;
  }

  std::optional<double> real(double most) {
    const auto text = next();
    if (!text) return std::nullopt;
    const auto value = parsed<double>(*text);
    if (value && *value >= 0 && *value <= most) return *value + 0.0;  // -0 is 0
    refuse(*text, fmt::format("a number from 0 to {} is expected", most));
    return std::nullopt;
  }

  std::optional<std::string> words() {
    const auto& cell = cells_[at_++];
    if (!cell) return std::nullopt;
    if (cell->find('\0') != std::string_view::npos && problem.empty())
      problem = fmt::format("{} holds a NUL byte", kPromptColumns[at_ - 1]);
    std::string valid;
    assign_utf8_replaced(*cell, valid);
    return valid;
  }

  std::string problem;

 private:
  /// Without blanks around it; nothing but blanks is absent.
  std::optional<std::string_view> next() {
    const auto& cell = cells_[at_++];
    if (!cell) return std::nullopt;
    const auto text = core::trim(*cell);
    return text.empty() ? std::nullopt : std::optional(text);
  }
  void refuse(std::string_view text, const std::string& expected) {
    if (problem.empty())
      problem = fmt::format("{} is '{}'; {}", kPromptColumns[at_ - 1], core::printable(text), expected);
  }

  const PromptCells& cells_;
  std::size_t at_ = 0;
};

template <class T>
std::optional<T> optional_of(const JsonValue& json, std::string_view key) {
  const auto value = json.find(key);
  return value ? std::optional(value->as<T>()) : std::nullopt;
}

}  // namespace

std::string read_prompt_cells(const PromptCells& cells, DecodedPrompt& out) {
  Cells reader(cells);
  out.row.negative_prompt = reader.words();
  out.row.seed = reader.number(0, kMostPromptSeed);
  out.row.width = reader.small_number(kMostSide);
  out.row.height = reader.small_number(kMostSide);
  out.row.steps = reader.small_number(kMostSteps);
  out.row.guidance = reader.real(kMostGuidance);
  out.count = reader.small_number(kMostPromptCopies);
  return reader.problem;
}

std::string to_json(const PromptRow& row) {
  std::string out =
      fmt::format("{{\"id\":{},\"prompt\":{}", core::json_quote(row.id), core::json_quote(row.prompt));
  const auto add = [&](std::string_view name, const auto& value) {
    if (value) out += fmt::format(",\"{}\":{}", name, *value);
  };
  if (row.negative_prompt) out += ",\"negative_prompt\":" + core::json_quote(*row.negative_prompt);
  add("seed", row.seed);
  add("width", row.width);
  add("height", row.height);
  add("steps", row.steps);
  add("guidance", row.guidance);
  return out + fmt::format(",\"row\":{},\"copy\":{}}}", row.row, row.copy);
}

PromptRow parse_prompt_row(std::string_view json) {
  const auto value = parse_json(json, "prompt");
  return {.id = value.get<std::string>("id"),
          .prompt = value.get<std::string>("prompt"),
          .negative_prompt = optional_of<std::string>(value, "negative_prompt"),
          .seed = optional_of<std::uint64_t>(value, "seed"),
          .width = optional_of<std::uint32_t>(value, "width"),
          .height = optional_of<std::uint32_t>(value, "height"),
          .steps = optional_of<std::uint32_t>(value, "steps"),
          .guidance = optional_of<double>(value, "guidance"),
          .row = value.get<std::uint64_t>("row"),
          .copy = value.get<std::uint32_t>("copy")};
}

std::string copy_id(const std::string& id, std::uint32_t copy) {
  return copy == 0 ? id : fmt::format("{}_{}", id, copy);
}

}  // namespace muster::formats
