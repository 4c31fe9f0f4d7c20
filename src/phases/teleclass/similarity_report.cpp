// SPDX-License-Identifier: Apache-2.0
#include "phases/teleclass/similarity_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

namespace muster::phases {
namespace {

constexpr std::size_t kClassesListed = 25;
constexpr std::size_t kNameCharacters = 60;

}  // namespace

std::vector<std::vector<std::string>> read_table(const std::string& path, std::size_t columns) {
  std::vector<std::vector<std::string>> rows;
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::vector<std::string> row;
    std::size_t begin = 0;
    for (std::size_t comma; row.size() + 1 < columns && (comma = line.find(',', begin)) != std::string::npos;
         begin = comma + 1)
      row.push_back(line.substr(begin, comma - begin));
    row.push_back(line.substr(begin));
    if (row.size() == columns) rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<report::Section> similarity_sections(const ReportSource& source) {
  auto rows = read_table(source.directory + "/classes.csv", 4);
  const auto count_of = [](const std::vector<std::string>& row) { return std::stod(row[1]); };
  std::stable_sort(rows.begin(), rows.end(),
                   [&](const auto& a, const auto& b) { return count_of(a) > count_of(b); });
  const auto without =
      std::count_if(rows.begin(), rows.end(), [&](const auto& row) { return count_of(row) == 0; });
  report::Section section{.title = "Pseudo-labels", .blocks = {}};
  section.blocks.emplace_back(report::Paragraph{fmt::format(
      "{} classes; {} without a document, more listed in starved_classes.tsv.", rows.size(), without)});
  report::Bars bars{.title = "Documents of the classes that got the most, before ancestors are added",
                    .unit = report::Unit::kNumber,
                    .parts = {"documents"},
                    .bars = {},
                    .mark = std::nullopt};
  for (std::size_t i = 0; i < std::min(rows.size(), kClassesListed); ++i)
    bars.bars.push_back(
        {.label = report::shortened(rows[i][3], kNameCharacters), .parts = {count_of(rows[i])}, .hint = ""});
  section.blocks.emplace_back(std::move(bars));
  return {section};
}

}  // namespace muster::phases
