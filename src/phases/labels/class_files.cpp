// SPDX-License-Identifier: Apache-2.0
#include "phases/labels/class_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "muster/formats/utf8.h"
#include "phases/labels/rows.h"

namespace muster::phases {
namespace {

using taxonomy::ClassId;

// A whole number of digits only.
std::optional<ClassId> number_of(std::string_view digits) {
  ClassId value = 0;
  const auto* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, value);
  if (digits.empty() || digits[0] == '-' || stop != end || error != std::errc()) return std::nullopt;
  return value;
}

// Looking for the nearest name takes time: only for words that will be told.
std::string why_not(const ClassLookup& lookup, std::string_view word, const core::ProblemList& problems) {
  return problems.full() ? std::string() : lookup.why_not(word);
}

std::vector<std::string> read_names(const std::string& path) {
  std::vector<std::string> names;
  std::unordered_map<std::string, std::uint64_t> lines;
  core::ProblemList problems(path);
  const auto reader = formats::make_tsv_reader(open_bytes(path));
  for_each_row(*reader, problems, [&](const formats::TableRow& row, auto&& complain) {
    if (row.fields.size() != 2)
      return complain(fmt::format("{} columns instead of id<TAB>name", row.fields.size()));
    const auto id = number_of(row.fields[0]);
    const std::string name(row.fields[1]);
    if (!id || static_cast<std::size_t>(*id) != names.size())
      complain(fmt::format("id '{}' where {} comes next; ids count from 0 in order",
                           core::printable(row.fields[0]), names.size()));
    if (name.empty() || core::trim(name) != name || !formats::is_valid_utf8(name))
      complain(fmt::format("'{}' is no class name: it is {}", core::printable(name),
                           name.empty() ? "empty" : "not UTF-8, or begins or ends with a blank"));
    const auto [earlier, is_new] = lines.emplace(name, row.line);
    if (!is_new)
      complain(
          fmt::format("the class '{}' is named in line {} already", core::printable(name), earlier->second));
    names.push_back(name);
  });
  if (names.empty()) problems.add("it holds no class");
  problems.throw_if_any();
  return names;
}

// Legal, and said by every job that reads the file: rank 0 alone is heard.
void tell_of_classes_apart(const taxonomy::Hierarchy& hierarchy, const std::vector<std::string>& names,
                           const std::string& path) {
  constexpr std::size_t kShown = 5;
  std::vector<std::string> shown;
  std::size_t count = 0;
  for (const ClassId root : hierarchy.roots()) {
    if (!hierarchy.children(root).empty()) continue;
    if (count++ < kShown) shown.push_back(core::printable(names[static_cast<std::size_t>(root)]));
  }
  if (count > 0)
    core::log::info("{}: {} of {} classes are in no edge and stand apart: {}{}", path, count, names.size(),
                    core::join(shown, ", "), count > shown.size() ? ", ..." : "");
}

taxonomy::Hierarchy read_hierarchy(const std::string& path, const std::vector<std::string>& names) {
  const ClassLookup lookup(names);
  std::vector<taxonomy::Edge> edges;
  core::ProblemList problems(path);
  const auto reader = formats::make_tsv_reader(open_bytes(path));
  for_each_row(*reader, problems, [&](const formats::TableRow& row, auto&& complain) {
    if (row.fields.size() != 2)
      return complain(fmt::format("{} columns instead of parent<TAB>child", row.fields.size()));
    const auto parent = lookup.find(row.fields[0]), child = lookup.find(row.fields[1]);
    if (!parent) complain(why_not(lookup, row.fields[0], problems));
    if (!child) complain(why_not(lookup, row.fields[1], problems));
    if (parent && child) edges.push_back({*parent, *child, row.line});
  });
  problems.throw_if_any();
  taxonomy::Hierarchy hierarchy(names.size(), edges, path);
  if (!edges.empty()) tell_of_classes_apart(hierarchy, names, path);
  return hierarchy;
}

std::vector<std::vector<std::string>> read_keywords(const std::string& path,
                                                    const std::vector<std::string>& names) {
  const ClassLookup lookup(names);
  std::vector<std::vector<std::string>> keywords(names.size());
  std::vector<std::uint64_t> lines(names.size());
  core::ProblemList problems(path);
  const auto reader = formats::make_line_reader(open_bytes(path));
  for_each_row(*reader, problems, [&](const formats::TableRow& row, auto&& complain) {
    const std::string_view line = row.fields[0];
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return complain("there is no colon: a row is name:term,term,...");
    const auto name = core::trim(line.substr(0, colon));
    const auto id = lookup.find_name(name);
    if (!id) return complain(why_not(lookup, name, problems));
    auto& line_of_class = lines[static_cast<std::size_t>(*id)];
    if (line_of_class != 0)
      return complain(fmt::format("the class '{}' has its keywords in line {} already", core::printable(name),
                                  line_of_class));
    line_of_class = row.line;
    for (const auto& term : core::split(line.substr(colon + 1), ',')) {
      const auto trimmed = core::trim(term);
      if (!formats::is_valid_utf8(trimmed))
        complain(fmt::format("'{}' is not UTF-8", core::printable(trimmed)));
      if (!trimmed.empty()) keywords[static_cast<std::size_t>(*id)].emplace_back(trimmed);
    }
  });
  problems.throw_if_any();
  return keywords;
}

/// A file of a layout: where a path to it goes, its name, and whether one can do without it.
struct LayoutFile {
  std::string DatasetLayout::*path;
  const char* name;
  enum { kRequired, kOptional } need;
};
struct KnownLayout {
  const char* name;
  std::array<LayoutFile, 7> files;
};
constexpr auto kRequired = LayoutFile::kRequired;
constexpr auto kOptional = LayoutFile::kOptional;
constexpr std::array<KnownLayout, 2> kLayouts{{
    {"Amazon_products",
     {{{&DatasetLayout::classes, "classes.txt", kRequired},
       {&DatasetLayout::hierarchy, "class_hierarchy.txt", kRequired},
       {&DatasetLayout::keywords, "class_related_keywords.txt", kOptional},
       {&DatasetLayout::train_corpus, "train/train_corpus.txt", kRequired},
       {&DatasetLayout::test_corpus, "test/test_corpus.txt", kRequired},
       {&DatasetLayout::train_gold, "gold/train_doc2labels.txt", kOptional},
       {&DatasetLayout::test_gold, "gold/test_doc2labels.txt", kOptional}}}},
    {"TELEClass",
     {{{&DatasetLayout::classes, "labels.txt", kRequired},
       {&DatasetLayout::hierarchy, "label_hierarchy.txt", kRequired},
       {&DatasetLayout::keywords, "train/llm_enrichment.txt", kOptional},
       {&DatasetLayout::train_corpus, "train/corpus.txt", kRequired},
       {&DatasetLayout::test_corpus, "test/corpus.txt", kRequired},
       {&DatasetLayout::train_gold, "train/doc2labels.txt", kOptional},
       {&DatasetLayout::test_gold, "test/doc2labels.txt", kOptional}}}},
}};

/// What a folder is when it is read in one layout.
struct Reading {
  DatasetLayout layout;
  std::vector<std::string> missing;
  std::size_t found = 0;  ///< of the required files
};

Reading read_as(const KnownLayout& known, const std::string& folder) {
  Reading reading;
  reading.layout.name = known.name;
  for (const auto& file : known.files) {
    auto& path = reading.layout.*file.path;
    for (const char* ending : {"", ".gz"}) {
      const std::string candidate = (std::filesystem::path(folder) / file.name).string() + ending;
      std::error_code ignored;
      if (path.empty() && std::filesystem::is_regular_file(candidate, ignored)) path = candidate;
    }
    if (file.need == kOptional) continue;
    if (path.empty())
      reading.missing.emplace_back(file.name);
    else
      ++reading.found;
  }
  return reading;
}

}  // namespace

LabelSpace read_label_space(const std::string& classes_path, const std::string& hierarchy_path,
                            const std::string& keywords_path) {
  LabelSpace space;
  space.names = read_names(classes_path);
  space.hierarchy = hierarchy_path.empty() ? taxonomy::Hierarchy(space.names.size())
                                           : read_hierarchy(hierarchy_path, space.names);
  space.keywords = keywords_path.empty() ? std::vector<std::vector<std::string>>(space.names.size())
                                         : read_keywords(keywords_path, space.names);
  return space;
}

taxonomy::Hierarchy read_class_hierarchy(const std::string& path, const std::vector<std::string>& names) {
  return read_hierarchy(path, names);
}

ClassLookup::ClassLookup(const std::vector<std::string>& names) : names_(names) {
  for (std::size_t i = 0; i < names.size(); ++i) by_name_.emplace(names[i], static_cast<ClassId>(i));
}

std::optional<ClassId> ClassLookup::find_name(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<ClassId> ClassLookup::find(std::string_view word) const {
  auto id = number_of(word);
  if (id && static_cast<std::size_t>(*id) >= names_.size()) id.reset();
  const auto named = find_name(word);
  if (id && named && *id != *named) return std::nullopt;
  return id ? id : named;
}

std::string ClassLookup::why_not(std::string_view word) const {
  if (find_name(word))
    return fmt::format("'{}' is the id of one class and the name of another; write the other's id",
                       core::printable(word));
  if (const auto id = number_of(word))
    return fmt::format("there is no class {}; {} classes have ids 0 to {}", *id, names_.size(),
                       names_.size() - 1);
  const auto near = core::nearest(word, names_);
  return fmt::format("there is no class '{}'{}", core::printable(word),
                     near ? fmt::format("; is '{}' meant?", core::printable(*near)) : "");
}

DatasetLayout find_layout(const std::string& folder) {
  std::vector<Reading> readings;
  for (const auto& known : kLayouts) readings.push_back(read_as(known, folder));
  const auto& best = *std::max_element(readings.begin(), readings.end(),
                                       [](const Reading& a, const Reading& b) { return a.found < b.found; });
  if (best.missing.empty()) return best.layout;
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored))
    throw core::DataError(
        fmt::format("{} is no folder that can be read; name the folder of the data set", folder));
  std::string message = fmt::format("{}: ", folder);
  if (best.found > 0)
    throw core::DataError(message + fmt::format("as a data set in the layout {} it lacks {}",
                                                best.layout.name, core::join(best.missing, ", ")));
  message += "no layout of a data set is recognised; it takes";
  for (const auto& reading : readings)
    message += fmt::format("\n  {}: {}", reading.layout.name, core::join(reading.missing, ", "));
  throw core::DataError(message);
}

}  // namespace muster::phases
