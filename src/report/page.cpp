// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "report/markup.h"
#include "report/style.h"

namespace muster::report {
namespace {

const char* tone_class(Tone tone) {
  switch (tone) {
    case Tone::kGood:
      return "good";
    case Tone::kWarning:
      return "warning";
    case Tone::kBad:
      return "bad";
    case Tone::kPlain:
      break;
  }
  return "plain";
}

std::string table_cell(const char* element, const std::string& text, Align align) {
  return fmt::format("<{0}{1}>{2}</{0}>", element, align == Align::kRight ? " class=\"number\"" : "",
                     escape(text));
}

std::string html_of(const Paragraph& paragraph) {
  return fmt::format("<p>{}</p>\n", escape(paragraph.text));
}

std::string html_of(const Preformatted& text) {
  return fmt::format("<pre>{}</pre>\n", escape(text.text));
}

std::string html_of(const Facts& facts) {
  std::string out = "<table class=\"facts\">\n";
  for (const auto& [name, value] : facts.rows)
    out += fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(value));
  return out + "</table>\n";
}

std::string html_of(const Table& table) {
  const auto align = [&](std::size_t column) {
    return column < table.columns.size() ? table.columns[column].align : Align::kLeft;
  };
  std::string out = "<div class=\"wide\"><table>\n<thead><tr>";
  for (const auto& column : table.columns) out += table_cell("th", column.name, column.align);
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (std::size_t c = 0; c < row.size(); ++c) out += table_cell("td", row[c], align(c));
    out += "</tr>\n";
  }
  out += "</tbody></table></div>\n";
  if (!table.note.empty()) out += fmt::format("<p class=\"note\">{}</p>\n", escape(table.note));
  return out;
}

std::string base64(const std::vector<std::byte>& bytes) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k)
      bits = bits << 8 | (i + k < bytes.size() ? static_cast<std::uint32_t>(bytes[i + k]) : 0);
    for (std::size_t k = 0; k < 4; ++k)
      out += i + k <= bytes.size() ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

std::string html_of(const Pictures& pictures) {
  std::string out =
      fmt::format("<figure><figcaption>{}</figcaption>\n<div class=\"pictures\">\n", escape(pictures.title));
  for (const auto& picture : pictures.pictures)
    out += fmt::format(
        "<figure title=\"{}\"><img alt=\"{}\" "
        "src=\"data:image/png;base64,{}\"><figcaption>{}</figcaption></figure>\n",
        escape(picture.hint), escape(picture.caption), base64(picture.png), escape(picture.caption));
  return out + "</div></figure>\n";
}

/// A picture with its title above it. A map's groups step back when one of them is pointed at in the legend.
template <class Picture>
std::string html_of(const Picture& picture) {
  return fmt::format("<figure><figcaption>{}</figcaption>\n{}</figure>\n", escape(picture.title),
                     draw(picture));
}

std::string html_of(const Section& section) {
  std::string out = section.fold == Fold::kFolded
                        ? fmt::format("<details><summary><h2>{}</h2></summary>\n", escape(section.title))
                        : fmt::format("<section><h2>{}</h2>\n", escape(section.title));
  for (const auto& block : section.blocks) out += std::visit([](const auto& b) { return html_of(b); }, block);
  return out + (section.fold == Fold::kFolded ? "</details>\n" : "</section>\n");
}

std::string tiles_html(const std::vector<Tile>& tiles) {
  std::string out = "<div class=\"tiles\">\n";
  for (const auto& tile : tiles) {
    out += fmt::format("<div class=\"tile {}\"><span>{}</span><strong>{}</strong><small>{}</small></div>\n",
                       tone_class(tile.tone), escape(tile.name), escape(tile.value), escape(tile.note));
  }
  return out + "</div>\n";
}

std::string legend_rules(const Report& report) {
  std::size_t groups = 0;
  for (const auto& section : report.sections) {
    for (const auto& block : section.blocks) {
      if (const auto* map = std::get_if<Map>(&block)) groups = std::max(groups, map->groups.size());
    }
  }
  std::string out;
  for (std::size_t g = 0; g < groups; ++g)
    out += fmt::format("svg:has(.k{0}:hover) .g:not(.g{0}){{opacity:.07}}\n", g);
  return out;
}

}  // namespace

std::string to_html(const Report& report) {
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{}</title>\n<style>\n{}{}</style>\n</head>\n<body>\n<header>\n<h1>{}</h1>\n"
      "<p class=\"state {}\">{}</p>\n</header>\n",
      escape(report.title), kStyle, legend_rules(report), escape(report.title), tone_class(report.tone),
      escape(report.subtitle));
  if (!report.tiles.empty()) out += tiles_html(report.tiles);
  for (const auto& section : report.sections) out += html_of(section);
  return out + "</body>\n</html>\n";
}

}  // namespace muster::report
