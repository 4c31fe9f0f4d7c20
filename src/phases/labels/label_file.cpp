// SPDX-License-Identifier: Apache-2.0
#include "phases/labels/label_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <optional>

#include "muster/core/file.h"
#include "muster/core/strings.h"
#include "muster/formats/utf8.h"
#include "phases/labels/class_files.h"
#include "phases/labels/rows.h"

namespace muster::phases {
namespace {

using taxonomy::ClassId;

constexpr std::string_view kNone = "-";

class LabelReader {
 public:
  LabelReader(const std::string& path, const std::vector<std::string>& class_names)
      : path_(path), lookup_(class_names), problems_(path) {}

  std::vector<DocumentLabels> read() {
    const auto reader = formats::make_tsv_reader(open_bytes(path_));
    bool is_first = true;
    for_each_row(*reader, problems_, [&](const formats::TableRow& row, auto&& complain) {
      const bool is_header =
          is_first && row.fields.size() >= 2 && row.fields[0] == "id" && row.fields[1] == "labels";
      is_first = false;
      if (!is_header) read_row(row, complain);
    });
    problems_.throw_if_any();
    return std::move(rows_);
  }

 private:
  template <class Complain>
  void read_row(const formats::TableRow& row, Complain&& complain) {
    const auto& fields = row.fields;
    if (fields.size() < 2 || fields.size() > 4)
      return complain(
          fmt::format("{} columns instead of id<TAB>labels[<TAB>ignored[<TAB>weight]]", fields.size()));
    DocumentLabels document{.id = std::string(fields[0])};
    if (document.id.empty() || !formats::is_valid_utf8(document.id))
      complain(fmt::format("'{}' is no document's id", core::printable(document.id)));
    const auto [earlier, is_new] = lines_.emplace(document.id, row.line);
    if (!is_new)
      complain(fmt::format("the document '{}' has its labels in line {} already",
                           core::printable(document.id), earlier->second));
    document.labels = classes_of(fields[1], complain);
    if (fields.size() > 2) document.ignored = classes_of(fields[2], complain);
    if (fields.size() > 3) {
      const auto weight = weight_of(fields[3]);
      if (!weight) complain(fmt::format("'{}' is no weight: a number from 0 up", core::printable(fields[3])));
      document.weight = weight.value_or(1);
    }
    rows_.push_back(std::move(document));
  }

  template <class Complain>
  std::vector<ClassId> classes_of(std::string_view list, Complain&& complain) const {
    std::vector<ClassId> classes;
    if (core::trim(list).empty() || core::trim(list) == kNone) return classes;
    for (const auto& part : core::split(list, ',')) {
      const auto word = core::trim(part);
      const auto id = lookup_.find(word);
      if (!id)
        // Looking for the nearest name takes time: only for words that will be told.
        complain(problems_.full() ? std::string() : lookup_.why_not(word));
      else if (std::find(classes.begin(), classes.end(), *id) == classes.end())
        classes.push_back(*id);
    }
    return classes;
  }

  static std::optional<float> weight_of(std::string_view text) {
    const auto digits = core::trim(text);
    float weight = 0;
    const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), weight);
    const bool is_number = error == std::errc() && stop == digits.data() + digits.size();
    return is_number && std::isfinite(weight) && weight >= 0 ? std::optional(weight) : std::nullopt;
  }

  const std::string& path_;
  ClassLookup lookup_;
  core::ProblemList problems_;
  std::unordered_map<std::string, std::uint64_t> lines_;
  std::vector<DocumentLabels> rows_;
};

void append_classes(std::string& text, std::span<const ClassId> classes) {
  text += '\t';
  if (classes.empty()) text += kNone;
  for (std::size_t i = 0; i < classes.size(); ++i)
    fmt::format_to(std::back_inserter(text), "{}{}", i == 0 ? "" : ",", classes[i]);
}

}  // namespace

std::vector<DocumentLabels> read_labels(const std::string& path,
                                        const std::vector<std::string>& class_names) {
  return LabelReader(path, class_names).read();
}

std::string labels_text(std::span<const DocumentLabels> rows) {
  std::string text;
  for (const auto& row : rows) {
    text += row.id;
    append_classes(text, row.labels);
    if (!row.ignored.empty() || row.weight != 1) append_classes(text, row.ignored);
    if (row.weight != 1) fmt::format_to(std::back_inserter(text), "\t{}", row.weight);
    text += '\n';
  }
  return text;
}

void write_labels(const std::string& path, std::span<const DocumentLabels> rows) {
  core::publish_text(path, labels_text(rows));
}

std::unordered_map<std::string_view, std::size_t> rows_by_id(std::span<const DocumentLabels> rows) {
  std::unordered_map<std::string_view, std::size_t> places;
  places.reserve(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) places.emplace(rows[i].id, i);
  return places;
}

}  // namespace muster::phases
