// SPDX-License-Identifier: Apache-2.0
#include "phases/teleclass/score_card_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "muster/core/strings.h"
#include "muster/formats/table.h"
#include "phases/labels/rows.h"

namespace muster::phases {
namespace {

using taxonomy::PrecisionForm;
using taxonomy::ReciprocalRankForm;

constexpr std::size_t kConfusionsListed = 30;
constexpr std::size_t kClassesListed = 40;

std::string number(double value) {
  return std::isfinite(value) ? fmt::format("{:.6f}", value) : "";
}

// Every row of a CSV file, its header first; nothing when there is no such file.
std::vector<std::vector<std::string>> read_csv(const std::string& path) {
  std::vector<std::vector<std::string>> rows;
  const auto reader = formats::make_csv_reader(open_bytes(path));
  for (formats::TableRow row; reader->next(row);) {
    auto& cells = rows.emplace_back();
    for (const auto& field : row.fields) cells.emplace_back(field);
  }
  return rows;
}

report::Table table_of(const std::vector<std::vector<std::string>>& rows, std::size_t most) {
  report::Table table;
  if (rows.empty()) return table;
  for (std::size_t i = 0; i < rows[0].size(); ++i) {
    const bool text = rows.size() > 1 && !rows[1][i].empty() &&
                      std::isdigit(static_cast<unsigned char>(rows[1][i][0])) == 0;
    table.columns.push_back({rows[0][i], text ? report::Align::kLeft : report::Align::kRight});
  }
  for (std::size_t i = 1; i < rows.size() && i <= most; ++i) table.rows.push_back(rows[i]);
  if (rows.size() - 1 > most) table.note = fmt::format("The first {} of {}.", most, rows.size() - 1);
  return table;
}

}  // namespace

std::vector<Metric> metrics_of(const taxonomy::Scorecard& card) {
  const auto f1 = card.example_f1();
  return {{"example_f1", f1.value},
          {"example_f1_standard_error", f1.standard_error},
          {"p_at_1", card.precision_at(1, PrecisionForm::kOverK)},
          {"p_at_3", card.precision_at(3, PrecisionForm::kOverK)},
          {"p_at_3_reachable", card.precision_at(3, PrecisionForm::kOverReachable)},
          {"mrr_pooled", card.mean_reciprocal_rank(ReciprocalRankForm::kPooled)},
          {"mrr_per_document", card.mean_reciprocal_rank(ReciprocalRankForm::kPerDocument)},
          {"micro_f1", card.micro_f1()},
          {"macro_f1", card.macro_f1()}};
}

std::string scores_json(const std::vector<ScoredMethod>& methods) {
  const auto& first = methods.front();
  std::string text = fmt::format("{{\n  \"documents\": {},\n  \"unlabelled\": {},\n  \"methods\": {{",
                                 first.card.documents(), first.card.unlabelled());
  for (const auto& method : methods) {
    text += fmt::format("{}\n    {}: {{\n      \"meaning\": {}", &method == &first ? "" : ",",
                        core::json_quote(method.name), core::json_quote(method.meaning));
    for (const auto& [name, value] : metrics_of(method.card))
      text += fmt::format(",\n      \"{}\": {}", name, std::isfinite(value) ? number(value) : "null");
    text += "\n    }";
  }
  text += fmt::format("\n  }},\n  \"{}_minus\": {{", first.name);
  const auto mine = first.card.example_f1();
  for (const auto& method : methods) {
    if (&method == &first) continue;
    const auto other = method.card.example_f1();
    // As if the two were independent: the true error, on the same documents, is smaller.
    const double error = std::hypot(mine.standard_error, other.standard_error);
    text += fmt::format("{}\n    {}: {{\"example_f1\": {}, \"standard_error\": {}}}",
                        &method == &methods[1] ? "" : ",", core::json_quote(method.name),
                        number(mine.value - other.value), number(error));
  }
  return text + "\n  }\n}\n";
}

std::string scores_csv(const std::vector<ScoredMethod>& methods) {
  std::string text = "method";
  for (const auto& metric : metrics_of(methods.front().card)) text += fmt::format(",{}", metric.name);
  text += ",meaning\n";
  for (const auto& method : methods) {
    text += formats::csv_field(method.name);
    for (const auto& metric : metrics_of(method.card)) text += "," + number(metric.value);
    text += "," + formats::csv_field(method.meaning) + "\n";
  }
  return text;
}

std::string class_scores_csv(const std::vector<ScoredMethod>& methods,
                             const std::vector<std::string>& names) {
  std::string text = "id,name,gold,predicted,right";
  for (const auto& method : methods) text += fmt::format(",{}_f1", method.name);
  text += '\n';
  for (std::size_t id = 0; id < names.size(); ++id) {
    const auto at = static_cast<taxonomy::ClassId>(id);
    const auto counts = methods.front().card.counts(at);
    text += fmt::format("{},{},{},{},{}", id, formats::csv_field(names[id]), counts.gold, counts.predicted,
                        counts.hits);
    for (const auto& method : methods) text += "," + number(method.card.counts(at).f1());
    text += '\n';
  }
  return text;
}

std::string confusions_csv(const std::vector<taxonomy::Confusion>& worst,
                           const std::vector<std::string>& names) {
  std::string text = "documents,missed,instead,missed_name,instead_name\n";
  const auto name = [&](taxonomy::ClassId id) {
    return formats::csv_field(names[static_cast<std::size_t>(id)]);
  };
  for (const auto& [missed, instead, documents] : worst)
    text += fmt::format("{},{},{},{},{}\n", documents, missed, instead, name(missed), name(instead));
  return text;
}

std::vector<report::Section> score_sections(const ReportSource& source) {
  const auto section = [](const char* title, report::Table table, report::Fold fold) {
    return report::Section{.title = title, .blocks = {std::move(table)}, .fold = fold};
  };
  auto classes = read_csv(source.directory + "/classes.csv");
  if (classes.size() > 1)
    std::stable_sort(classes.begin() + 1, classes.end(),
                     [](const auto& a, const auto& b) { return std::stoull(a[2]) > std::stoull(b[2]); });
  std::vector<report::Section> sections;
  sections.push_back(section("Scores against the gold labels",
                             table_of(read_csv(source.directory + "/scores.csv"), SIZE_MAX),
                             report::Fold::kOpen));
  sections.push_back(section("The worst confusions of the classifier",
                             table_of(read_csv(source.directory + "/confusions.csv"), kConfusionsListed),
                             report::Fold::kOpen));
  sections.push_back(section("Classes with the most gold documents", table_of(classes, kClassesListed),
                             report::Fold::kFolded));
  return sections;
}

}  // namespace muster::phases
