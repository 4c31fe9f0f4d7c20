// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "muster/phases/item_phase.h"
#include "muster/taxonomy/metrics.h"

namespace muster::phases {

/// A way to label documents, and how good it was.
struct ScoredMethod {
  std::string name;     ///< "classifier"
  std::string meaning;  ///< in words, for tables
  taxonomy::Scorecard card;
};

/// What is said of a method, in the order of columns; NaN where nothing ranks all classes.
struct Metric {
  const char* name;
  double value = 0;
};
std::vector<Metric> metrics_of(const taxonomy::Scorecard& card);

/// scores.json: metrics of every method, and by how much the first beats each other.
std::string scores_json(const std::vector<ScoredMethod>& methods);
/// scores.csv: a row a method.
std::string scores_csv(const std::vector<ScoredMethod>& methods);
/// classes.csv: gold, predicted and right documents of each class and its F1, for the first method; the F1 of
/// the others.
std::string class_scores_csv(const std::vector<ScoredMethod>& methods, const std::vector<std::string>& names);
/// confusions.csv, the most frequent first.
std::string confusions_csv(const std::vector<taxonomy::Confusion>& worst,
                           const std::vector<std::string>& names);

/// The tables of report.html, from these files.
std::vector<report::Section> score_sections(const ReportSource& source);

}  // namespace muster::phases
