// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "muster/config/schema.h"
#include "muster/core/strings.h"

namespace muster::config {
namespace {

constexpr std::size_t kLines = 40, kColumns = 100, kFlagColumn = 34, kChoiceColumns = 24;

std::string value_word(const Key& key) {
  if (!key.value_name.empty()) return key.value_name;
  if (!key.choices.empty()) {
    const std::string choices = core::join(key.choices, "|");
    return choices.size() <= kChoiceColumns ? choices : "NAME";
  }
  switch (key.type) {
    case KeyType::kInt:
      return "N";
    case KeyType::kFloat:
      return "X";
    case KeyType::kBool:
      return "";
    case KeyType::kDuration:
      return "TIME";
    case KeyType::kIntList:
      return "N...";
    case KeyType::kString:
    case KeyType::kStringList:
      break;
  }
  return "TEXT";
}

/// "-n, --ranks N": the short flags and the first long one.
std::string flag_words(const Key& key) {
  std::vector<std::string> shown;
  for (const auto& flag : key.flags) {
    const bool is_long = flag.starts_with("--");
    const bool has_long = !shown.empty() && shown.back().starts_with("--");
    if (!is_long || !has_long) shown.push_back(flag);
  }
  const std::string value = value_word(key);
  return core::join(shown, ", ") + (value.empty() ? "" : " " + value);
}

bool default_says_something(const Key& key) {
  return !key.default_value.empty() && key.default_value != "[]" && key.default_value != "false" &&
         key.default_value != "none";
}

std::string cut(std::string line) {
  if (line.size() > kColumns) line = line.substr(0, kColumns - 3) + "...";
  return line;
}

std::string flag_line(const Key& key) {
  const std::string value = default_says_something(key) ? fmt::format(" [{}]", key.default_value)
                            : key.required              ? " (required)"
                                                        : "";
  return cut(fmt::format("  {:<{}} {}{}", flag_words(key), kFlagColumn, key.doc, value));
}

/// Flags by name only, as many a line as fit.
std::vector<std::string> compact_lines(const std::vector<const Key*>& keys) {
  std::vector<std::string> lines;
  std::string line = "  also:";
  for (const Key* key : keys) {
    const std::string word =
        flag_words(*key) + (default_says_something(*key) ? fmt::format(" [{}]", key->default_value) : "");
    if (line.size() + 2 + word.size() > kColumns) {
      lines.push_back(std::exchange(line, "       "));
    }
    line += "  " + word;
  }
  if (!keys.empty()) lines.push_back(line);
  return lines;
}

std::string escape_cell(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  return text;
}

std::string type_words(const Key& key) {
  static constexpr const char* kNames[] = {"text",     "integer",       "number",          "bool",
                                           "duration", "list of texts", "list of integers"};
  if (!key.choices.empty()) return core::join(key.choices, ", ");
  return std::string(kNames[static_cast<std::size_t>(key.type)]) + (key.auto_allowed ? " or auto" : "") +
         (key.none_allowed ? " or none" : "");
}

std::string code_cell(const std::string& text) {
  return text.empty() ? "" : fmt::format("`{}`", escape_cell(text));
}

}  // namespace

std::string help_page(const std::string& command, const std::string& summary, const Schema& schema,
                      const std::vector<std::string>& examples) {
  std::vector<const Key*> lines, compact;
  for (const auto& key : schema.keys()) {
    if (!key.flags.empty()) (key.help == HelpPlace::kLine ? lines : compact).push_back(&key);
  }
  std::vector<std::string> also = compact_lines(compact);
  const std::size_t frame =
      4 + examples.size() + 2;  // usage, summary, two empty lines; empty line and "Examples:"
  while (lines.size() > 1 && frame + lines.size() + also.size() > kLines) {
    compact.insert(compact.begin(), lines.back());
    lines.pop_back();
    also = compact_lines(compact);
  }
  std::string page = fmt::format("usage: muster {}\n\n{}\n\n", command, summary);
  for (const Key* key : lines) page += flag_line(*key) + '\n';
  for (const auto& line : also) page += line + '\n';
  page += "\nExamples:\n";
  for (const auto& example : examples) page += cut("  " + example) + '\n';
  return page;
}

std::string markdown_table(const Schema& schema) {
  std::string table =
      "| key | flag | values | default | meaning | changes results |\n|---|---|---|---|---|---|\n";
  for (const auto& key : schema.keys()) {
    std::vector<std::string> flags;
    for (const auto& flag : key.flags) flags.push_back(code_cell(flag));
    table +=
        fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", key.name, core::join(flags, " "),
                    escape_cell(type_words(key)), key.required ? "required" : code_cell(key.default_value),
                    escape_cell(key.doc), key.affects == AffectsResults::kYes ? "yes" : "no");
  }
  return table;
}

}  // namespace muster::config
