// SPDX-License-Identifier: Apache-2.0
#include "phases/infer/prediction_charts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "muster/core/error.h"
#include "muster/core/log.h"
#include "muster/io/hdf5_results.h"
#include "phases/infer/class_space.h"
#include "phases/text_model/model_choice.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kBlockValues = std::uint64_t{1} << 20;
constexpr std::size_t kShownClasses = 25;
constexpr std::size_t kScoreBins = 40;
constexpr std::size_t kMostLabelBins = 60;
constexpr std::uint64_t kScoredDocuments = 200'000;  // whose scores are drawn
constexpr std::size_t kNameCharacters = 60;

struct Counts {
  std::uint64_t documents = 0, labels = 0;
  std::vector<std::uint64_t> of_class;   ///< documents with the class
  std::vector<std::uint64_t> of_number;  ///< documents with so many labels
  std::uint64_t stride = 1;              ///< every so many documents one's scores are kept
  std::vector<float> first, others;      ///< of the first label and of the rest
};

Counts count(const std::string& directory) {
  const io::H5Reader reader(directory + "/predictions.h5");
  const auto attributes = reader.attributes();
  Counts counts;
  counts.of_class.resize(static_cast<std::size_t>(std::get<std::int64_t>(attributes.at("classes"))));
  const auto shape = reader.shape("/labels");
  const std::uint64_t rows = shape.at(0), width = shape.at(1),
                      block = std::max<std::uint64_t>(kBlockValues / width, 1);
  counts.documents = rows;
  counts.of_number.resize(width + 1);
  counts.stride = rows / kScoredDocuments + 1;
  for (std::uint64_t first = 0; first < rows; first += block) {
    const std::uint64_t here = std::min(block, rows - first);
    const auto labels = reader.read_i32("/labels", first, here);
    const auto scores = reader.read_rows("/scores", first, here);
    const auto numbers = reader.read_i32("/n_labels", first, here);
    for (std::uint64_t row = 0; row < here; ++row) {
      const auto number = static_cast<std::uint64_t>(numbers[row]);
      counts.labels += number;
      ++counts.of_number.at(number);
      for (std::uint64_t i = row * width; i < row * width + number; ++i) {
        ++counts.of_class.at(static_cast<std::size_t>(labels[i]));
        if ((first + row) % counts.stride == 0)
          (i == row * width ? counts.first : counts.others).push_back(scores[i]);
      }
    }
  }
  return counts;
}

// A report is made without the model, too: then classes have numbers.
std::vector<std::string> names_of(const config::Config* config, std::size_t classes) {
  std::vector<std::string> names;
  for (std::size_t id = 0; id < classes; ++id) names.push_back(fmt::format("class {}", id));
  if (config == nullptr) return names;
  try {
    InferOptions options;
    options.classes_path = config->string("taxonomy.classes");
    const auto model = models::describe_text_classifier(find_model_folder(config->string("model.path")));
    const auto space = read_class_space(options, model);
    if (space.names.size() == classes) names = space.names;
  } catch (const core::Error& error) {
    core::log::warning("report.html has numbers for the names of classes: {}", error.what());
  }
  return names;
}

report::Bars most_frequent(const Counts& counts, const std::vector<std::string>& names) {
  std::vector<std::size_t> order(counts.of_class.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return counts.of_class[a] > counts.of_class[b]; });
  std::erase_if(order, [&](std::size_t id) { return counts.of_class[id] == 0; });
  report::Bars bars;
  const std::size_t shown = std::min(order.size(), kShownClasses);
  bars.title =
      order.size() > shown
          ? fmt::format("Documents of the {} most frequent of {} classes that occur", shown, order.size())
          : "Documents of each class that occurs";
  bars.parts = {"documents"};
  for (std::size_t i = 0; i < shown; ++i) {
    const auto of_class = static_cast<double>(counts.of_class[order[i]]);
    bars.bars.push_back(
        {.label = report::shortened(names[order[i]], kNameCharacters),
         .parts = {of_class},
         .hint = fmt::format(
             "class {}: {:.2f} % of the documents", order[i],
             100 * of_class / static_cast<double>(std::max<std::uint64_t>(counts.documents, 1)))});
  }
  return bars;
}

report::Histogram labels_a_document(const Counts& counts) {
  report::Histogram chart{.title = "Labels of a document", .x_label = "labels", .y_label = "documents"};
  const std::size_t bins = std::min(counts.of_number.size(), kMostLabelBins);
  chart.first = -0.5;
  chart.width = std::ceil(static_cast<double>(counts.of_number.size()) / static_cast<double>(bins));
  chart.parts = {"documents"};
  chart.counts.emplace_back(bins);
  for (std::size_t number = 0; number < counts.of_number.size(); ++number)
    chart.counts[0][static_cast<std::size_t>(static_cast<double>(number) / chart.width)] +=
        static_cast<double>(counts.of_number[number]);
  return chart;
}

report::Histogram scores(const Counts& counts) {
  const std::string every =
      counts.stride > 1 ? fmt::format(", of every {}th document", counts.stride) : std::string();
  report::Histogram chart{.title = "Scores of the labels" + every, .x_label = "score", .y_label = "labels"};
  float least = 0, most = 1;  // probabilities; logits go beyond
  for (const auto* values : {&counts.first, &counts.others}) {
    for (const float value : *values) {
      least = std::min(least, value);
      most = std::max(most, value);
    }
  }
  chart.first = least;
  chart.width = (static_cast<double>(most) - least) / kScoreBins;
  chart.parts = {"first label", "further labels"};
  for (const auto* values : {&counts.first, &counts.others}) {
    auto& bins = chart.counts.emplace_back(kScoreBins);
    for (const float value : *values)
      ++bins[std::min(static_cast<std::size_t>((value - chart.first) / chart.width), kScoreBins - 1)];
  }
  return chart;
}

report::Facts facts(const Counts& counts) {
  const auto documents = static_cast<double>(counts.documents);
  const auto used =
      std::count_if(counts.of_class.begin(), counts.of_class.end(), [](auto n) { return n > 0; });
  return {{{"documents", report::number_text(documents)},
           {"labels",
            fmt::format("{} ({:.2f} a document)", report::number_text(static_cast<double>(counts.labels)),
                        static_cast<double>(counts.labels) / documents)},
           {"classes that occur", fmt::format("{} of {}", used, counts.of_class.size())}}};
}

}  // namespace

std::vector<report::Section> prediction_charts(const ReportSource& source) {
  const Counts counts = count(source.directory);
  if (counts.documents == 0) return {};
  std::vector<report::Section> sections;
  sections.push_back(
      {.title = "Labels",
       .blocks = {facts(counts), most_frequent(counts, names_of(source.config, counts.of_class.size())),
                  labels_a_document(counts), scores(counts)}});
  return sections;
}

}  // namespace muster::phases
