// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace muster::config {

enum class KeyType { kString, kInt, kFloat, kBool, kDuration, kStringList, kIntList };
/// Whether changing the key changes the bytes of a result: such keys belong to the resume identity.
enum class AffectsResults { kNo, kYes };

/// Where --help shows a flag: on a line of its own, or by name in the last lines. A page that would not fit a screen moves
/// its last lines there by itself.
enum class HelpPlace { kLine, kCompact };

/// One key of a config file, and everything that is said about it anywhere: --help, docs, resolved.yaml, nearest-key messages.
struct Key {
  std::string name;           ///< dotted: "run.batch_tokens"
  KeyType type = KeyType::kString;
  std::string default_value;  ///< as written in YAML; "" for none, "[]" for an empty list
  std::string doc;            ///< one line
  std::vector<std::string> flags;    ///< "--batch-tokens", "-m"; legacy names too; --help shows the short ones and the first long one
  AffectsResults affects = AffectsResults::kNo;
  std::vector<std::string> choices;  ///< allowed values; empty: any
  bool auto_allowed = false;         ///< numbers, bools and durations that also take the word auto
  bool required = false;
  bool none_allowed = false;         ///< kInt keys that also take the word none: the largest integer, no limit
  std::optional<double> minimum;     ///< of kInt, kFloat, kIntList (each element), kDuration (seconds)
  std::optional<double> maximum;
  /// A further rule for the text: what was expected, in words, or "" when all is well.
  std::string (*check)(const std::string& text) = nullptr;
  std::string value_name;            ///< "DIR" in --help; "" takes the choices or a word for the type
  HelpPlace help = HelpPlace::kLine;
  /// Of the flags one that may stand without a value, and what it means then.
  std::string bare_flag, bare_value;
  /// Each value has a schema of its own (the tasks of train): it is read before all others.
  bool chooses_schema = false;
};

class Schema {
 public:
  /// A name or flag that is there already is an InternalError.
  Schema& add(Key key);
  Schema& add(const Schema& other);
  /// For a command that can do without a key which others require: `plan` writes no output.
  Schema& make_optional(const std::string& name);
  /// For a phase whose usual value is another one.
  Schema& set_default(const std::string& name, const std::string& default_value);
  /// For a phase in whose words a key is said otherwise.
  Schema& set_doc(const std::string& name, const std::string& doc);
  /// For a phase to which a key of all phases means nothing.
  Schema& remove(const std::string& name);
  /// For a phase whose results depend on a key that does not affect others'.
  Schema& set_affects(const std::string& name, AffectsResults affects);
  const std::vector<Key>& keys() const { return keys_; }
  const Key* find(const std::string& name) const;
  const Key* chooser() const;  ///< the key that chooses between schemas; null when there is one schema
  const Key* find_flag(const std::string& flag) const;  ///< dashes and underscores are the same

 private:
  std::vector<Key>::iterator key_of(const std::string& name);

  std::vector<Key> keys_;
};

/// Where a value came from, for messages: "configs/a.yaml:12", "--set", "--batch-tokens", "default".
struct Value {
  std::string text;                ///< scalar as written; lists are kept in `list`
  std::vector<std::string> list;
  std::string origin = "default";
};

/// Checked, typed values of all keys of a schema.
class Config {
 public:
  Config() = default;
  /// Keys without a value get their default. ConfigError with one problem a line, as load_config.
  Config(Schema schema, std::map<std::string, Value> values);
  std::string string(const std::string& name) const;
  std::int64_t integer(const std::string& name) const;  ///< an `auto` must have been resolved
  double number(const std::string& name) const;
  bool boolean(const std::string& name) const;
  double duration(const std::string& name) const;  ///< seconds, infinity for none
  std::vector<std::string> strings(const std::string& name) const;
  std::vector<int> integers(const std::string& name) const;
  bool is_auto(const std::string& name) const;
  bool is_default(const std::string& name) const;
  const Value& value(const std::string& name) const;
  const Schema& schema() const { return schema_; }
  /// Replaces a value after `auto` was resolved; origin becomes "auto".
  void resolve(const std::string& name, const std::string& text);
  /// The whole config as YAML, nested by dots, in schema order: resolved.yaml.
  std::string to_yaml() const;
  /// Values of the keys that affect results, in one spelling each: 1e-4 and 0.0001 are equal, yes and true too.
  std::map<std::string, std::string> identity() const;

 private:
  Schema schema_;
  std::map<std::string, Value> values_;
};

/// What the command line gave.
struct Sources {
  std::string yaml_path;                                  ///< "" for none
  std::vector<std::pair<std::string, std::string>> sets;  ///< --set key=value, in order
  std::vector<std::pair<std::string, std::vector<std::string>>> flags;  ///< key name -> values, from flags
};

/// flag > --set > file > default. All problems in one ConfigError: unknown keys (line, nearest valid key), wrong types, values that
/// are not allowed, duplicates, missing required keys.
Config load_config(const Schema& schema, const Sources& sources);
/// `job:` of a config file, without checking the rest; "" when it has none.
std::string read_job(const std::string& yaml_path);
/// Any other single value by its dotted name, likewise: "train.task".
std::string read_scalar(const std::string& yaml_path, const std::string& name);

/// The keys every phase has (docs/reference.md); a phase adds its own.
Schema common_schema();
/// How many of `items` items may fail, from "10" or "2%" (rounded down); ConfigError for anything else.
std::uint64_t failures_allowed(const std::string& text, std::uint64_t items);

/// A help page that fits a screen (40 lines of 100 columns): usage, flags with defaults, examples.
/// `command` is what follows "muster" on the usage line: "encode [CONFIG.yaml] [flags]".
std::string help_page(const std::string& command, const std::string& summary, const Schema& schema,
                      const std::vector<std::string>& examples);
/// A Markdown table of the keys, for docs/.
std::string markdown_table(const Schema& schema);

}  // namespace muster::config
