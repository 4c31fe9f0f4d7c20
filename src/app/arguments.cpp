// SPDX-License-Identifier: Apache-2.0
#include "app/arguments.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <tuple>

#include "app/commands.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"

namespace muster::app {
namespace {

using config::Key;
using config::KeyType;
using config::Schema;
using Given = std::map<std::string, std::vector<std::string>>;  ///< by key name

bool is_list(const Key& key) {
  return key.type == KeyType::kStringList || key.type == KeyType::kIntList;
}

bool is_yaml(const std::string& word) {
  return (word.ends_with(".yaml") || word.ends_with(".yml")) && word.find('=') == std::string::npos;
}

/// --batch_tokens=7 as --batch-tokens=7: one spelling of flags for the parser; values stay.
std::string with_dashes(const std::string& word) {
  if (!word.starts_with("--")) return word;
  std::string out = word;
  std::replace(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(std::min(out.find('='), out.size())),
               '_', '-');
  return out;
}

std::vector<std::string> flags_of(const Schema& schema) {
  std::vector<std::string> out;
  for (const auto& key : schema.keys()) {
    for (const auto& flag : key.flags) out.push_back(with_dashes(flag));
  }
  return out;
}

/// What the words of a command line are, before anybody looks at their values.
struct Words {
  Given options, keys;  ///< of the command's own options and of the phase's keys
  std::vector<std::string> positional, unknown;
};

/// CLI11 knows the grammar of words (-n4, --limit=5, lists, `--`); types, ranges and choices are the
/// schema's.
class Line {
 public:
  Line() {
    app_.set_help_flag();
    app_.allow_extras();
    positional_ = app_.add_option("positional")->expected(0, -1)->allow_extra_args();
  }

  void add(const Schema& schema, Given& given) {
    for (const auto& key : schema.keys()) {
      if (key.flags.empty()) continue;
      std::vector<std::string> names;
      for (const auto& flag : key.flags) names.push_back(with_dashes(flag));
      const std::string joined = core::join(names, ",");
      CLI::Option* option = key.type == KeyType::kBool ? app_.add_flag(joined) : app_.add_option(joined);
      if (is_list(key)) option->expected(1, -1)->allow_extra_args();
      option->multi_option_policy(is_list(key) ? CLI::MultiOptionPolicy::TakeAll
                                               : CLI::MultiOptionPolicy::TakeLast);
      wanted_.push_back({option, &given, key.name});
      if (!key.bare_flag.empty()) bare_[with_dashes(key.bare_flag)] = &key;
    }
  }

  void parse(const std::vector<std::string>& arguments, Words& words) {
    std::vector<std::string> reversed;
    bool flags_end = false;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      flags_end = flags_end || arguments[i] == "--";
      reversed.push_back(flags_end ? arguments[i] : with_dashes(arguments[i]));
      if (flags_end) continue;
      const auto bare = bare_.find(reversed.back());
      if (bare == bare_.end()) continue;
      const auto& choices = bare->second->choices;
      const bool has_value = i + 1 < arguments.size() &&
                             std::find(choices.begin(), choices.end(), arguments[i + 1]) != choices.end();
      if (!has_value) reversed.back() += '=' + bare->second->bare_value;
    }
    std::reverse(reversed.begin(), reversed.end());
    app_.parse(reversed);
    for (const auto& [option, given, name] : wanted_) {
      if (option->count() == 0) continue;
      const auto values = option->results();
      refuse_flags_as_values(*option, values);
      (*given)[name] = option->get_expected_max() > 1 ? values : std::vector<std::string>{values.back()};
    }
    words.positional = positional_->results();
    words.unknown = app_.remaining();
    std::erase(words.unknown, "--");
  }

 private:
  struct Wanted {
    CLI::Option* option;
    Given* given;
    std::string name;
  };

  /// In `-i -m x` the parser gives -m to -i.
  void refuse_flags_as_values(const CLI::Option& option, const std::vector<std::string>& values) const {
    for (const auto& value : values) {
      const bool is_flag =
          value.starts_with('-') && app_.get_option_no_throw(value.substr(0, value.find('='))) != nullptr;
      if (is_flag) throw CLI::ArgumentMismatch(option.get_name());
    }
  }

  CLI::App app_;
  CLI::Option* positional_ = nullptr;
  std::vector<Wanted> wanted_;
  std::map<std::string, const Key*>
      bare_;  ///< flags that may stand without a value; the schema outlives the line
};

/// Collects problems; each message names the command and where to read on.
class Complaints {
 public:
  explicit Complaints(std::string command) : command_(std::move(command)) {}
  void add(const std::string& problem) { lines_.push_back(problem); }
  void throw_if_any() const {
    if (lines_.empty()) return;
    throw core::ConfigError(
        fmt::format("{}\n`{} --help` lists what can be given", core::join(lines_, "\n"), command_));
  }

 private:
  std::string command_;
  std::vector<std::string> lines_;
};

void add_unknown_flags(const Words& words, const std::vector<std::string>& flags, Complaints& complaints) {
  for (const auto& word : words.unknown) {
    const std::string flag = word.substr(0, word.find('='));
    const auto near = core::nearest(flag, flags);
    complaints.add(fmt::format("unknown flag '{}'{}", core::printable(flag),
                               near ? fmt::format("; did you mean '{}'?", *near) : ""));
  }
}

/// Takes what may be the config file out of the words. A list flag takes all words up to the next flag, so in
/// `-i a.tsv b.tsv job.yaml` the last one is looked at too: no input is a YAML file.
std::vector<std::string> take_config_words(Words& words) {
  std::vector<std::string> found = std::exchange(words.positional, {});
  for (Given* given : {&words.options, &words.keys}) {
    for (auto& [name, values] : *given) {
      if (values.size() < 2) continue;
      const auto rest =
          std::stable_partition(values.begin(), values.end(), [](const auto& v) { return !is_yaml(v); });
      found.insert(found.end(), rest, values.end());
      values.erase(rest, values.end());
    }
  }
  return found;
}

std::string config_path_of(const std::vector<std::string>& found, Complaints& complaints) {
  for (const auto& word : found) {
    if (!is_yaml(word)) {
      complaints.add(
          fmt::format("'{}' is no config file (.yaml); inputs are given with -i", core::printable(word)));
    }
  }
  if (found.size() > 1)
    complaints.add(
        fmt::format("one config file is taken, not {}: {}", found.size(), core::join(found, ", ")));
  return found.empty() ? "" : found.front();
}

void read_sets(const Given& options, config::Sources& sources, Complaints& complaints) {
  const auto found = options.find("set");
  if (found == options.end()) return;
  for (const auto& word : found->second) {
    const auto equals = word.find('=');
    if (equals == 0 || equals == std::string::npos) {
      complaints.add(
          fmt::format("--set takes key=value, not '{}'; e.g. --set run.seed=7", core::printable(word)));
    } else {
      sources.sets.emplace_back(word.substr(0, equals), word.substr(equals + 1));
    }
  }
}

std::string last_set(const config::Sources& sources, const std::string& wanted) {
  std::string last;
  for (const auto& [name, value] : sources.sets) {
    if (name == wanted) last = value;
  }
  return last;
}

std::string available_commands() {
  std::vector<std::string> names;
  for (const auto& command : commands()) names.push_back(command.name);
  return core::join(names, ", ");
}

[[noreturn]] void fail_unknown_command(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& command : commands()) names.push_back(command.name);
  const auto later = announced_commands();
  if (std::find(later.begin(), later.end(), name) != later.end()) {
    throw core::ConfigError(
        fmt::format("'{}' is not in this version of muster, which has {}", name, available_commands()));
  }
  const auto near = core::nearest(name, names);
  throw core::ConfigError(fmt::format("unknown command '{}'{}; commands are {}", core::printable(name),
                                      near ? fmt::format("; did you mean '{}'?", *near) : "",
                                      available_commands()));
}

/// A command of the table, or a phase that only the callback knows.
Command command_named(const std::string& name, const FindPhase& find_phase) {
  const Command* known = find_command(name);
  if (known != nullptr && known->kind != CommandKind::kPhase) return *known;
  if (find_phase(name, "") == nullptr) fail_unknown_command(name);
  if (known != nullptr) return *known;
  return {.name = name, .usage = "[CONFIG.yaml] [flags]", .summary = "the phase " + name, .examples = {}};
}

Words split_words(const std::vector<std::string>& arguments, const Schema& options, const Schema* phase) {
  Words words;
  Line line;
  line.add(options, words.options);
  if (phase != nullptr) line.add(*phase, words.keys);
  try {
    line.parse({arguments.begin() + 1, arguments.end()}, words);
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string flag = core::split(error.what(), ':').front();
    throw core::ConfigError(fmt::format("muster {}: {} needs a value", arguments.front(), flag));
  } catch (const CLI::ParseError& error) {
    throw core::ConfigError(fmt::format("muster {}: {}", arguments.front(), error.what()));
  }
  return words;
}

/// What the line and its config file say of the key that chooses between the schemas of a phase. Words are
/// split by the first schema, so flags of another one are unknown here; the second reading tells.
std::string variant_of(const Command& command, const std::vector<std::string>& arguments,
                       const Schema& schema) {
  const Key* key = schema.chooser();
  if (key == nullptr) return "";
  Words words = split_words(arguments, options_of(command), &schema);
  if (const auto flag = words.keys.find(key->name); flag != words.keys.end()) return flag->second.front();
  const auto found = take_config_words(words);
  config::Sources sources;
  Complaints later("");
  read_sets(words.options, sources, later);
  if (auto set = last_set(sources, key->name); !set.empty()) return set;
  const auto path = std::find_if(found.begin(), found.end(), is_yaml);
  return path == found.end() ? "" : config::read_scalar(*path, key->name);
}

/// The schema of a phase that is asked for, and its variant.
std::pair<const Schema*, std::string> schema_of(const std::string& job, const Command& command,
                                                const std::vector<std::string>& arguments,
                                                const FindPhase& find_phase) {
  const Schema* first = find_phase(job, "");
  if (first == nullptr) fail_unknown_command(job);
  const std::string variant = variant_of(command, arguments, *first);
  if (const Key* key = first->chooser(); key != nullptr && !variant.empty()) {
    // Said before flags of the schema that was meant are called unknown.
    const auto& known = key->choices;
    if (std::find(known.begin(), known.end(), variant) == known.end())
      throw core::ConfigError(fmt::format("{} is '{}'; it is one of {}", key->name, core::printable(variant),
                                          core::join(known, ", ")));
  }
  return {find_phase(job, variant), variant};
}

std::optional<Arguments> show_only(const std::vector<std::string>& arguments, const FindPhase& find_phase) {
  const auto flags_end = std::find(arguments.begin(), arguments.end(), "--");
  const auto has = [&](const char* word) {
    return std::find(arguments.begin(), flags_end, word) != flags_end;
  };
  Arguments out;
  if (has("--help") || has("-h")) {
    out.show = Show::kHelp;
    if (arguments.front().starts_with('-')) {
      out.help = overview_page();
      return out;
    }
    const Command command = command_named(out.command = arguments.front(), find_phase);
    const Schema common = config::common_schema();
    const Schema* keys = command.kind == CommandKind::kTool ? nullptr
                         : command.kind == CommandKind::kJob
                             ? &common
                             : schema_of(command.name, command, arguments, find_phase).first;
    out.help = command_page(command, keys);
    return out;
  }
  if (has("--version")) {
    out.show = Show::kVersion;
    return out;
  }
  return std::nullopt;
}

/// The phase of `run` and `plan`: --job, else --set job=, else the config file's. Its flags are not known
/// yet, so the words are read with the common ones first.
std::string job_of(const Command& command, const std::vector<std::string>& arguments) {
  const Schema common = config::common_schema();
  Words words = split_words(arguments, options_of(command), &common);
  if (const auto flag = words.options.find("job"); flag != words.options.end()) return flag->second.front();
  const auto found = take_config_words(words);
  config::Sources sources;
  Complaints later("");  // the second reading tells
  read_sets(words.options, sources, later);
  std::string job = last_set(sources, "job");
  const auto path = std::find_if(found.begin(), found.end(), is_yaml);
  if (job.empty() && path != found.end()) {
    job = config::read_job(*path);
    if (job.empty())
      throw core::ConfigError(fmt::format("{} has no `job:`; add e.g. `job: encode`, or give --job", *path));
  }
  if (job.empty()) {
    throw core::ConfigError(fmt::format(
        "muster {0}: which phase? Give a config file (.yaml) with `job:`, or --job, e.g. muster {0} "
        "--job encode -m MODEL -i FILE -o DIR",
        command.name));
  }
  return job;
}

/// A config for another phase is a mistake, not something to override in silence.
void check_same_job(const Arguments& arguments, Complaints& complaints) {
  std::string job = last_set(arguments.sources, "job");
  std::string where = "--set";
  if (job.empty() && !arguments.config_path.empty()) {
    try {
      job = config::read_job(arguments.config_path);
    } catch (const core::ConfigError&) {
      return;  // load_config will tell, with the file's other problems
    }
    where = arguments.config_path;
  }
  if (job.empty() || job == arguments.job) return;
  complaints.add(fmt::format("{} says 'job: {}', but the command is {}; use `muster run`, or another config",
                             where, core::printable(job), arguments.command));
}

void take_options(const Command& command, const Schema& schema, const Given& given, Arguments& out) {
  std::map<std::string, config::Value> values;
  for (const auto& [name, texts] : given) {
    const Key& key = *schema.find(name);
    if (!is_list(key)) values[name] = {.text = texts.front(), .list = {}, .origin = key.flags.back()};
  }
  const config::Config options(schema, std::move(values));
  out.log_level = options.string("log_level");
  if (command.name == "verify") out.redo = static_cast<int>(options.integer("redo"));
  if (command.name == "search") out.top = static_cast<int>(options.integer("top"));
  if (command.name == "report") out.output = options.string("output");
  if (command.name == "info") out.doctor = options.boolean("doctor");
  if (schema.find("dry_run") == nullptr) return;
  out.dry_run = options.boolean("dry_run");
  out.fresh = options.boolean("fresh");
  out.retry_failed = options.boolean("retry_failed");
  out.keep_segments = options.boolean("keep_segments");
}

Arguments parse_tool(const Command& command, const std::vector<std::string>& arguments) {
  const Schema options = options_of(command);
  Words words = split_words(arguments, options, nullptr);
  Complaints complaints("muster " + command.name);
  add_unknown_flags(words, flags_of(options), complaints);
  const std::size_t count = words.positional.size();
  if (words.unknown.empty() && (count < command.min_positional || count > command.max_positional)) {
    complaints.add(fmt::format("usage: muster {} {}", command.name, command.usage));
  }
  complaints.throw_if_any();
  Arguments out;
  out.command = command.name;
  out.positional = std::move(words.positional);
  take_options(command, options, words.options, out);
  return out;
}

Arguments parse_phase(const Command& command, const std::vector<std::string>& arguments,
                      const FindPhase& find_phase) {
  Arguments out;
  out.command = command.name;
  out.job = command.kind == CommandKind::kJob ? job_of(command, arguments) : command.name;
  const Schema* chosen = nullptr;
  std::tie(chosen, out.variant) = schema_of(out.job, command, arguments, find_phase);
  const Schema& phase = *chosen;
  const Schema options = options_of(command);
  Words words = split_words(arguments, options, &phase);
  Complaints complaints("muster " + command.name);
  auto flags = flags_of(phase);
  for (auto& flag : flags_of(options)) flags.push_back(std::move(flag));
  add_unknown_flags(words, flags, complaints);
  const auto found = take_config_words(words);
  // The value of an unknown flag looks like a config file that is none.
  if (words.unknown.empty()) out.config_path = config_path_of(found, complaints);
  out.sources.yaml_path = out.config_path;
  read_sets(words.options, out.sources, complaints);
  if (command.kind == CommandKind::kPhase) check_same_job(out, complaints);
  complaints.throw_if_any();
  for (const auto& key : phase.keys()) {
    const auto given = words.keys.find(key.name);
    if (key.name == "job") {
      out.sources.flags.push_back({key.name, {out.job}});
    } else if (given != words.keys.end()) {
      out.sources.flags.emplace_back(key.name, given->second);
    }
  }
  take_options(command, options, words.options, out);
  if (out.fresh && out.retry_failed)
    throw core::ConfigError("--fresh forgets what failed; give it or --retry-failed, not both");
  return out;
}

}  // namespace

Arguments parse_arguments(const std::vector<std::string>& arguments, const FindPhase& find_phase) {
  if (arguments.empty()) throw core::ConfigError("no command given\n\n" + overview_page());
  if (auto shown = show_only(arguments, find_phase)) return *shown;
  if (arguments.front().starts_with('-')) {
    throw core::ConfigError(
        fmt::format("the command comes before its flags: muster <command> {} ...; commands are {}",
                    core::printable(arguments.front()), available_commands()));
  }
  const Command command = command_named(arguments.front(), find_phase);
  return command.kind == CommandKind::kTool ? parse_tool(command, arguments)
                                            : parse_phase(command, arguments, find_phase);
}

}  // namespace muster::app
