// SPDX-License-Identifier: Apache-2.0
#include "phases/encode/embedding_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/log.h"
#include "muster/io/hdf5_results.h"
#include "muster/report/projection.h"
#include "phases/runner/survey.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kFewestRows = 8;
constexpr std::uint64_t kMostRowsRead = 500'000;  // of the input, to find the sample's texts
constexpr std::size_t kMostGroups = 16;
constexpr std::size_t kHintCharacters = 120;

/// Documents at equal distances over the whole file.
struct Sample {
  std::uint64_t rows = 0;
  std::vector<std::string> ids;
  std::vector<float> vectors;
  std::size_t columns = 0;
  std::unordered_map<std::string, std::size_t> place;  ///< by id
};

Sample take_sample(const std::string& directory, std::uint64_t points) {
  const io::H5Reader reader(directory + "/embeddings.h5");
  const auto shape = reader.shape("/embeddings");
  Sample sample{.rows = shape.at(0), .ids = {}, .vectors = {}, .columns = shape.at(1), .place = {}};
  const std::uint64_t count = std::min(sample.rows, points);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t row = i * sample.rows / count;
    const auto vector = reader.read_rows("/embeddings", row, 1);
    sample.vectors.insert(sample.vectors.end(), vector.begin(), vector.end());
    sample.ids.push_back(reader.read_strings("/ids", row, 1).front());
    sample.place.emplace(sample.ids.back(), i);
  }
  return sample;
}

/// What some file says about the sample's documents, by id; of rows with one id the first counts, as in the
/// job.
class Found {
 public:
  explicit Found(const Sample& sample)
      : sample_(sample), texts_(sample.ids.size()), missing_(sample.place.size()) {}
  void offer(const std::string& id, std::string_view text) {
    const auto place = sample_.place.find(id);
    if (place == sample_.place.end() || texts_[place->second]) return;
    texts_[place->second] = text;
    --missing_;
  }
  bool complete() const { return missing_ == 0; }
  const std::string& text(std::size_t i) const {
    static const auto* nothing = new std::string;
    return texts_[i] ? *texts_[i] : *nothing;
  }

 private:
  const Sample& sample_;
  std::vector<std::optional<std::string>> texts_;
  std::size_t missing_;
};

void read_texts(const formats::InputConfig& input, Found& found) {
  const auto source = io::open_items(input);
  formats::Item item;
  formats::Reject reject;
  for (std::uint64_t row = 0; !found.complete() && row < kMostRowsRead; ++row) {
    const auto kind = source->next(item, reject);
    if (kind == formats::RowKind::kEnd) return;
    if (kind == formats::RowKind::kItem) found.offer(item.id, item.text);
  }
}

// Two columns, id and label; a header is a row that no document has the id of.
void read_labels(const std::string& path, Found& found) {
  const auto rows =
      formats::make_tsv_reader(formats::decompress_source(formats::open_file_source(path), path));
  for (formats::TableRow row; !found.complete() && rows->next(row);) {
    if (row.fields.size() >= 2) found.offer(std::string(row.fields[0]), row.fields[1]);
  }
}

/// A picture without texts or colours is better than none.
template <class Read>
void if_possible(const char* what, Read read) {
  try {
    read();
  } catch (const core::Error& error) {
    core::log::warning("the map of report.html has no {}: {}", what, error.what());
  }
}

/// The most frequent labels have a group each, the others one together.
void group_points(const Found& labels, report::Map& map) {
  std::map<std::string, std::size_t> counts;
  for (std::size_t i = 0; i < map.points.size(); ++i) ++counts[labels.text(i)];
  std::vector<std::pair<std::string, std::size_t>> order(counts.begin(), counts.end());
  std::erase_if(order, [](const auto& entry) { return entry.first.empty(); });
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (order.size() > kMostGroups) order.resize(kMostGroups);
  std::map<std::string, std::uint32_t> group;
  for (const auto& [label, count] : order) {
    group[label] = static_cast<std::uint32_t>(map.groups.size());
    map.groups.push_back(label);
  }
  const auto rest = static_cast<std::uint32_t>(map.groups.size());
  bool any_rest = false;
  for (std::size_t i = 0; i < map.points.size(); ++i) {
    const auto found = group.find(labels.text(i));
    map.points[i].group = found == group.end() ? rest : found->second;
    any_rest |= found == group.end();
  }
  if (!any_rest) return;
  map.groups.emplace_back(order.empty() ? "documents" : "other");
  map.rest = order.empty() ? report::Rest::kNone : report::Rest::kLastGroup;
}

std::string hint_of(const std::string& id, const std::string& label, const std::string& text) {
  std::string hint = label.empty() ? id : fmt::format("{} ({})", id, label);
  if (!text.empty()) hint += "\n" + report::shortened(text, kHintCharacters);
  return hint;
}

}  // namespace

config::Schema embedding_map_schema() {
  using config::HelpPlace;
  using config::KeyType;
  config::Schema schema;
  schema.add({.name = "report.labels",
              .type = KeyType::kString,
              .default_value = "",
              .doc = "a file of ids and labels: colours of the map in report.html",
              .flags = {"--labels"},
              .value_name = "FILE",
              .help = HelpPlace::kCompact});
  schema.add({.name = "report.map_points",
              .type = KeyType::kInt,
              .default_value = "2000",
              .doc = "documents in the map of report.html; 0: no map",
              .flags = {"--map-points"},
              .minimum = 0,
              .maximum = 5000,
              .help = HelpPlace::kCompact});
  return schema;
}

std::vector<report::Section> embedding_map(const ReportSource& source) {
  if (source.config == nullptr) return {};
  const auto& config = *source.config;
  const auto points = static_cast<std::uint64_t>(config.integer("report.map_points"));
  if (points == 0) return {};
  const double begin = core::monotonic_seconds();
  const Sample sample = take_sample(source.directory, points);
  if (sample.ids.size() < kFewestRows) return {};
  const std::string labels_file = config.string("report.labels");
  Found texts(sample), labels(sample);
  if_possible("texts", [&] { read_texts(input_of(config), texts); });
  if (!labels_file.empty()) if_possible("colours", [&] { read_labels(labels_file, labels); });
  const auto plane = report::tsne_plane({sample.vectors, sample.columns});
  report::Map map;
  for (std::size_t i = 0; i < plane.size(); ++i) {
    map.points.push_back({.x = plane[i].x,
                          .y = plane[i].y,
                          .group = 0,
                          .hint = hint_of(sample.ids[i], labels.text(i), texts.text(i))});
  }
  group_points(labels, map);
  map.title = fmt::format(
      "{} of {} documents; similar ones lie near each other (t-SNE of the embeddings, the axes mean "
      "nothing). Point at one to "
      "read it{}.",
      report::number_text(static_cast<double>(plane.size())),
      report::number_text(static_cast<double>(sample.rows)),
      map.groups.size() > 1 ? ", at a name of the list to see its documents alone" : "");
  core::log::debug("the map of report.html took {}", core::human_duration(core::monotonic_seconds() - begin));
  std::vector<report::Section> sections;
  sections.push_back({.title = "Map of the embeddings", .blocks = {std::move(map)}});
  return sections;
}

}  // namespace muster::phases
