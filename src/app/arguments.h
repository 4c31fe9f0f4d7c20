// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "muster/config/schema.h"

namespace muster::app {

/// All keys of a phase, common ones included; null for a name that is no phase. Phases own their keys, so
/// main hands this in. Where a key of the phase chooses between schemas, `variant` is its value; one that is
/// unknown or "" gets the first.
using FindPhase = std::function<const config::Schema*(const std::string& phase, const std::string& variant)>;

enum class Show { kNothing, kHelp, kVersion };

/// What the command line says. `sources` is for config::load_config with the schema of `job`.
struct Arguments {
  std::string command;      ///< "encode", "run", "plan", "verify", "search", "report", "info"
  std::string job;          ///< the phase to run or to plan; "" for the other commands
  std::string variant;      ///< of the phase: what the key says that chooses between its schemas
  std::string config_path;  ///< "" for none
  config::Sources sources;
  std::vector<std::string> positional;  ///< verify: DIR; search: DIR, query; report: one or two DIR; info: FOLDER or nothing

  Show show = Show::kNothing;
  std::string help;  ///< the page, when `show` is kHelp

  bool dry_run = false;
  bool fresh = false;
  bool retry_failed = false;
  bool keep_segments = false;
  bool doctor = false;  ///< info
  int redo = 0;         ///< verify
  int top = 10;         ///< search
  std::string output;   ///< report
  std::string log_level = "info";
};

/// `arguments` without the program's name. ConfigError with all problems of the line, each with the nearest
/// valid flag or command; values of config keys are checked by load_config. Reads the `job:` of a config file
/// and nothing else.
Arguments parse_arguments(const std::vector<std::string>& arguments, const FindPhase& find_phase);

}  // namespace muster::app
