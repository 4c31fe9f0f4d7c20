// SPDX-License-Identifier: Apache-2.0
#include "yaml_text.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/strings.h"
#include "value.h"

namespace muster::config {
namespace {

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 20;

std::string last_part(const std::string& name) {
  return name.substr(name.rfind('.') + 1);
}

bool is_section(const Schema& schema, const std::string& name) {
  const std::string prefix = name + '.';
  return std::any_of(schema.keys().begin(), schema.keys().end(),
                     [&](const Key& key) { return key.name.starts_with(prefix); });
}

/// All names a file may use: keys and the sections they lie in.
std::vector<std::string> names_of(const Schema& schema) {
  std::set<std::string> names;
  for (const auto& key : schema.keys()) {
    names.insert(key.name);
    for (auto dot = key.name.find('.'); dot != std::string::npos; dot = key.name.find('.', dot + 1)) {
      names.insert(key.name.substr(0, dot));
    }
  }
  return {names.begin(), names.end()};
}

std::optional<std::string> suggestion(const Schema& schema, const std::string& name) {
  // Short names tolerate few typos, so a right name in the wrong section counts first.
  for (const auto& key : schema.keys()) {
    if (last_part(key.name) == last_part(name)) return key.name;
  }
  const auto names = names_of(schema);
  if (auto near = core::nearest(name, names)) return near;
  std::vector<std::string> parts;
  for (const auto& key : schema.keys()) parts.push_back(last_part(key.name));
  const auto near = core::nearest(last_part(name), parts);
  if (!near) return std::nullopt;
  return schema.keys()[static_cast<std::size_t>(std::find(parts.begin(), parts.end(), *near) - parts.begin())]
      .name;
}

std::size_t line_of(const YAML::Node& node) {
  return static_cast<std::size_t>(node.Mark().line) + 1;
}

std::string yaml_error(const YAML::Exception& error) {
  return fmt::format("is not valid YAML: {} (column {})", error.msg, error.mark.column + 1);
}

/// Notes where the first value of every document begins; the rest is none of its business.
class DocumentStarts final : public YAML::EventHandler {
 public:
  std::vector<YAML::Mark> marks;

  void OnDocumentStart(const YAML::Mark&) override { waiting_ = true; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { note(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { note(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t, const std::string&) override {
    note(mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    note(mark);
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    note(mark);
  }
  void OnMapEnd() override {}

 private:
  void note(const YAML::Mark& mark) {
    if (std::exchange(waiting_, false)) marks.push_back(mark);
  }
  bool waiting_ = false;
};

/// Where a second document begins, if there is one. Two documents and no more are looked for: where a value
/// cannot begin, as in ", a", yaml-cpp finds empty documents without end.
std::optional<YAML::Mark> second_document(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentStarts starts;
  if (!parser.HandleNextDocument(starts) || !parser.HandleNextDocument(starts)) return std::nullopt;
  const YAML::Mark first = starts.marks.at(0), second = starts.marks.at(1);
  if (first.pos == second.pos) throw YAML::ParserException(second, "a value cannot begin here");
  return second;
}

/// The one document of a file as a map; an empty node when there were problems.
YAML::Node parse_document(const std::string& path, Problems& problems) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored)) {
    problems.add(fmt::format(
        "{} is not a regular file; a config is read by every rank, so pipes cannot be used", path));
    return {};
  }
  std::string text;
  try {
    text = core::read_file(path, kMaxFileBytes);
  } catch (const core::DataError& error) {
    problems.add(fmt::format("{} (as config file)", error.what()));
    return {};
  }
  if (const auto line = first_bad_line(text)) {
    problems.add(fmt::format("{}:{}: not UTF-8 text; save the file as UTF-8", path, *line));
    return {};
  }
  try {
    const auto second = second_document(text);
    const YAML::Node document = YAML::Load(text);
    if (second) {
      problems.add(fmt::format("{}:{}: a second document begins (`---`); a config file has one", path,
                               second->line + 1));
    } else if (document.IsNull()) {
      problems.add(fmt::format("{} is empty; a config file has keys such as `job: encode`", path));
    } else if (!document.IsMap()) {
      problems.add(fmt::format("{}:{}: expected keys such as `job: encode`", path, line_of(document)));
    } else {
      return document;
    }
  } catch (const YAML::Exception& error) {
    problems.add(fmt::format("{}:{}: {}", path, error.mark.line + 1, yaml_error(error)));
  }
  return {};
}

/// Walks the maps of a document. Only sections of the schema are entered, and each at most once, so neither
/// deep nesting nor aliases that multiply make this long.
class FileReader {
 public:
  FileReader(const Schema& schema, const std::string& path, Problems& problems)
      : schema_(schema), path_(path), problems_(problems) {}

  void read_map(const YAML::Node& map, const std::string& prefix) {
    for (const auto& entry : map) {
      if (!entry.first.IsScalar()) {
        problem(entry.first, "a key must be a plain name");
        continue;
      }
      read_entry(prefix + entry.first.Scalar(), entry.first, entry.second);
    }
  }
  NamedValues take() { return std::move(values_); }

 private:
  void read_entry(const std::string& name, const YAML::Node& key_node, const YAML::Node& node) {
    const auto [seen, is_new] = lines_.emplace(name, line_of(key_node));
    const Key* key = schema_.find(name);
    if (!is_new) {
      problem(key_node,
              fmt::format("'{}' is given twice (first in line {})", core::printable(name), seen->second));
    } else if (key != nullptr) {
      read_value(*key, key_node, node);
    } else if (!is_section(schema_, name)) {
      // Beyond the lines that are shown nobody reads the words; finding the nearest key for each would take
      // minutes.
      problem(key_node, problems_.full() ? "unknown key" : unknown_key(schema_, name));
    } else if (node.IsMap()) {
      read_map(node, name + '.');
    } else if (!node.IsNull()) {  // a section whose keys are all commented out is fine
      problem(key_node, fmt::format("'{}' is a section, not a value; write its keys below it", name));
    }
  }

  void read_value(const Key& key, const YAML::Node& key_node, const YAML::Node& node) {
    Value value;
    value.origin = fmt::format("{}:{}", path_, line_of(node.IsNull() ? key_node : node));
    auto wrong = fill(key, node, value);
    if (!wrong) wrong = value_problem(key, value);
    if (wrong) {
      problems_.add(key, fmt::format("{}: {}", value.origin, *wrong));
    } else {
      values_.emplace_back(key.name, std::move(value));
    }
  }

  /// Takes a node's scalars; what is wrong when it has others.
  static std::optional<std::string> fill(const Key& key, const YAML::Node& node, Value& value) {
    const auto refuse = [&](const char* what) {
      return fmt::format("'{}' {}; expected {}", key.name, what, expectation(key));
    };
    if (node.IsNull()) return refuse("has no value");
    if (node.IsMap()) return refuse("is a section");
    if (node.IsSequence() && !is_list(key.type)) return refuse("is a list");
    if (!is_list(key.type)) {
      value.text = node.Scalar();
    } else if (node.IsScalar()) {
      value.list = list_of(key, node.Scalar());
    } else {
      for (const auto& element : node) {
        if (!element.IsScalar()) return refuse("has an element that is no plain value");
        value.list.push_back(element.Scalar());
      }
    }
    return std::nullopt;
  }

  void problem(const YAML::Node& node, const std::string& what) {
    problems_.add(fmt::format("{}:{}: {}", path_, line_of(node), what));
  }

  const Schema& schema_;
  const std::string& path_;
  Problems& problems_;
  NamedValues values_;
  std::map<std::string, std::size_t> lines_;
};

std::string scalar_in(const YAML::Node& section, const std::string& prefix, const std::string& wanted) {
  if (!section.IsMap()) return "";
  for (const auto& entry : section) {
    if (!entry.first.IsScalar()) continue;
    const std::string name = prefix + entry.first.Scalar();
    if (name == wanted) return entry.second.IsScalar() ? entry.second.Scalar() : "";
    if (!wanted.starts_with(name + '.')) continue;
    if (auto found = scalar_in(entry.second, name + '.', wanted); !found.empty()) return found;
  }
  return "";
}

}  // namespace

void Problems::add(std::string line) {
  if (full()) {
    ++hidden_;
  } else {
    lines_.push_back(std::move(line));
  }
}

void Problems::add(const Key& key, std::string line) {
  keys_.insert(key.name);
  add(std::move(line));
}

void Problems::throw_if_any() const {
  if (empty()) return;
  const std::string more = hidden_ > 0 ? fmt::format("\n... and {} more problems", hidden_) : "";
  throw core::ConfigError(core::join(lines_, "\n") + more);
}

std::string unknown_key(const Schema& schema, const std::string& name) {
  const auto near = suggestion(schema, name);
  return fmt::format("unknown key '{}'{}", core::printable(name),
                     near ? fmt::format("; did you mean '{}'?", *near) : "");
}

NamedValues read_yaml_file(const Schema& schema, const std::string& path, Problems& problems) {
  const YAML::Node document = parse_document(path, problems);
  if (!document.IsMap()) return {};
  FileReader reader(schema, path, problems);
  reader.read_map(document, "");
  return reader.take();
}

InlineValue read_inline(const Key& key, const std::string& text) {
  InlineValue out;
  const bool flow = text.starts_with('[') && text.ends_with(']') && is_list(key.type);
  const bool quoted =
      text.size() > 1 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front();
  if (!flow && !quoted) {
    if (is_list(key.type)) {
      out.value.list = list_of(key, text);
    } else {
      out.value.text = text;
    }
    return out;
  }
  try {
    if (const auto more = second_document(text)) {
      throw YAML::ParserException(*more, "something follows the closing quote or bracket");
    }
    const YAML::Node node = YAML::Load(text);
    const bool plain =
        std::all_of(node.begin(), node.end(), [](const auto& element) { return element.IsScalar(); });
    if (node.IsSequence() && plain) {
      for (const auto& element : node) out.value.list.push_back(element.Scalar());
    } else if (node.IsScalar()) {
      (is_list(key.type) ? out.value.list.emplace_back() : out.value.text) = node.Scalar();
    } else {
      out.problem = fmt::format("'{}' is {}; expected {}", key.name, core::printable(text), expectation(key));
    }
  } catch (const YAML::Exception& error) {
    out.problem = fmt::format("'{}' {}", key.name, yaml_error(error));
  }
  return out;
}

std::string read_scalar(const std::string& yaml_path, const std::string& name) {
  Problems problems;
  const YAML::Node document = parse_document(yaml_path, problems);
  problems.throw_if_any();
  return scalar_in(document, "", name);
}

std::string read_job(const std::string& yaml_path) {
  return read_scalar(yaml_path, "job");
}

}  // namespace muster::config
