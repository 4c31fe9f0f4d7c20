// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <span>
#include <string>
#include <vector>

#include "muster/config/schema.h"

namespace muster::app {

enum class CommandKind {
  kPhase,  ///< its name is the phase's: encode
  kJob,    ///< takes its phase from `job:`: run, plan
  kTool,   ///< works on a directory, starts no MPI: verify, search, report, info
};

/// A row of the overview. Phases bring their own keys; what is said about the command line is here.
struct Command {
  std::string name;
  CommandKind kind = CommandKind::kPhase;
  std::string usage;    ///< after the name: "DIR [flags]"
  std::string summary;  ///< one line
  std::vector<std::string> examples;
  std::size_t min_positional = 0;
  std::size_t max_positional = 1;
};

const std::vector<Command>& commands();
const Command* find_command(const std::string& name);
/// Names of the reference page that a later version will bring.
std::span<const std::string> announced_commands();

/// The options of a command that are no config keys (--dry-run, --fresh, --top ...), as a schema of their
/// own, so that parsing, checks and help are the same for both.
config::Schema options_of(const Command& command);

/// `muster --help`.
std::string overview_page();
/// `muster <command> --help`; `phase` are the keys whose flags it takes, if any.
std::string command_page(const Command& command, const config::Schema* phase);

}  // namespace muster::app
