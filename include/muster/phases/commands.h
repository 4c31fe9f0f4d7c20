// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "muster/config/schema.h"
#include "muster/core/error.h"
#include "muster/phases/item_phase.h"

namespace muster::phases {

/// The commands that never start MPI. Results go to stdout, messages to stderr.

/// What would run where: balance, walltime and memory on `ranks` ranks, from config files and the input's
/// lengths alone.
core::ExitCode plan_command(const PhaseInfo& phase, const config::Config& config, int ranks);

struct VerifyOptions {
  std::string directory;
  std::uint64_t redo = 0;  ///< recompute this many random items and compare
  std::uint64_t seed = 0;
};
/// kDone, or kInput when a digest or a recomputed item differs (listed on stdout).
core::ExitCode verify_command(const Registry& registry, const VerifyOptions& options);

struct SearchOptions {
  std::string directory;
  std::string query;
  std::uint64_t top = 10;
};
/// The nearest documents of an embeddings.h5 by cosine similarity.
core::ExitCode search_command(const Registry& registry, const SearchOptions& options);

struct ReportOptions {
  std::vector<std::string> directories;  ///< one, or two to compare
  std::string output;                    ///< "": report.html in the one directory, or here for two
};
/// report.html of an output directory, finished or not; prints where it is.
core::ExitCode report_command(const Registry& registry, const ReportOptions& options);

/// What --version prints.
std::string versions_text();

/// Versions, devices and the models in a folder; with `doctor` a check of the installation with a remedy a
/// line.
enum class Doctor { kNo, kYes };
core::ExitCode info_command(const std::vector<std::string>& folders, Doctor doctor);

}  // namespace muster::phases
