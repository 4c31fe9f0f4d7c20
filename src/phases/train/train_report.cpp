// SPDX-License-Identifier: Apache-2.0
#include "phases/train/train_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "muster/core/strings.h"
#include "muster/formats/json.h"
#include "muster/formats/table.h"

namespace muster::phases {
namespace {

constexpr std::size_t kMostPoints = 1000;  // of a curve
constexpr std::size_t kClassesListed = 40;

/// What metrics.jsonl says over the steps; a step that was taken again after a stop counts as it was last.
using StepValues = std::map<std::string, std::map<std::uint64_t, double>>;

StepValues read_metrics(const std::string& directory) {
  StepValues values;
  std::ifstream file(directory + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto json = formats::parse_json(line, "metrics.jsonl");
    if (json.get<std::int32_t>("rank") != 0 || json.at("value").is_null())
      continue;  // null: not a finite number
    values[json.get<std::string>("name")][json.get<std::uint64_t>("step")] = json.get<double>("value");
  }
  return values;
}

report::Series series_of(const StepValues& values, const std::string& metric, const std::string& name) {
  report::Series series{.name = name, .points = {}};
  const auto found = values.find(metric);
  if (found == values.end()) return series;
  const std::size_t every = std::max<std::size_t>(1, found->second.size() / kMostPoints);
  std::size_t i = 0;
  for (const auto& [step, value] : found->second)
    if (i++ % every == 0 || i == found->second.size())
      series.points.push_back({static_cast<double>(step), value});
  return series;
}

void add_curves(const StepValues& values, const std::string& title,
                const std::vector<std::pair<std::string, std::string>>& metrics, report::Section& section) {
  report::Curves curves{.title = title, .y_label = "", .series = {}, .marks = {}, .x_label = "step"};
  for (const auto& [metric, name] : metrics) {
    auto series = series_of(values, metric, name);
    if (series.points.size() > 1) curves.series.push_back(std::move(series));
  }
  if (!curves.series.empty()) section.blocks.emplace_back(std::move(curves));
}

report::Section memory_by_part(const StepValues& values) {
  report::Section section{.title = "Memory of rank 0 by part", .blocks = {}, .fold = report::Fold::kFolded};
  report::Facts facts;
  for (const auto& [name, steps] : values) {
    if (!name.starts_with("memory ") || steps.empty()) continue;
    facts.rows.emplace_back(name.substr(7),
                            report::quantity_text(steps.rbegin()->second, report::Unit::kBytes));
  }
  if (!facts.rows.empty()) section.blocks.emplace_back(std::move(facts));
  return section;
}

report::Section class_balance(const std::string& directory) {
  report::Section section{.title = "Class balance", .blocks = {}, .fold = report::Fold::kFolded};
  struct Row {
    std::string name;
    std::uint64_t training = 0, validation = 0;
  };
  std::vector<Row> rows;
  std::ifstream file(directory + "/classes.csv");
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    // The name comes last, so that it may hold commas.
    std::istringstream cells(line);
    std::string id, training, validation;
    Row row;
    if (!std::getline(cells, id, ',') || !std::getline(cells, training, ',') ||
        !std::getline(cells, validation, ',') || !std::getline(cells, row.name))
      continue;
    row.training = std::stoull(training);
    row.validation = std::stoull(validation);
    rows.push_back(std::move(row));
  }
  if (rows.empty()) return section;
  const auto without =
      std::count_if(rows.begin(), rows.end(), [](const Row& row) { return row.training == 0; });
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return a.training > b.training; });
  section.blocks.emplace_back(report::Paragraph{
      fmt::format("{} classes; {} of them without a training document.", rows.size(), without)});
  report::Bars bars{.title = "Documents of the most frequent classes",
                    .unit = report::Unit::kNumber,
                    .parts = {"training", "held out"},
                    .bars = {},
                    .mark = std::nullopt};
  for (std::size_t i = 0; i < std::min(rows.size(), kClassesListed); ++i)
    bars.bars.push_back(
        {.label = rows[i].name,
         .parts = {static_cast<double>(rows[i].training), static_cast<double>(rows[i].validation)},
         .hint = ""});
  section.blocks.emplace_back(std::move(bars));
  return section;
}

}  // namespace

std::string class_table(const LabelSpace& space, const TrainingSet& documents, const DocumentList& training) {
  std::vector<std::uint64_t> all(space.names.size()), trained(space.names.size());
  const auto count = [&](std::uint32_t document, std::vector<std::uint64_t>& counts) {
    for (const auto id : documents.labels(document).targets.positives) ++counts[static_cast<std::size_t>(id)];
  };
  for (std::uint32_t document = 0; document < documents.size(); ++document) count(document, all);
  for (const std::uint32_t document : training) count(document, trained);
  std::string table = "id,training_documents,validation_documents,name\n";
  for (std::size_t i = 0; i < space.names.size(); ++i)
    table += fmt::format("{},{},{},{}\n", i, trained[i], all[i] - trained[i], space.names[i]);
  return table;
}

std::vector<report::Section> train_sections(const ReportSource& source) {
  const StepValues values = read_metrics(source.directory);
  report::Section curves{.title = "Training", .blocks = {}};
  add_curves(values, "Loss", {{"loss", "training"}}, curves);
  add_curves(values, "Loss on the documents held out", {{"validation_loss", "validation"}}, curves);
  add_curves(values, "Scores on the documents held out",
             {{"validation_example_f1", "Example-F1"}, {"validation_p_at_1", "P@1"}}, curves);
  add_curves(values, "Learning rate", {{"learning_rate", "learning rate"}}, curves);
  add_curves(values, "Gradient norm before clipping", {{"gradient_norm", "norm"}}, curves);
  add_curves(values, "Loss scale", {{"loss_scale", "scale"}}, curves);
  std::vector<report::Section> sections;
  for (auto& section : {curves, class_balance(source.directory), memory_by_part(values)})
    if (!section.blocks.empty()) sections.push_back(section);
  return sections;
}

}  // namespace muster::phases
