// SPDX-License-Identifier: Apache-2.0
#include "io/earlier_results.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/io/run_directory.h"

namespace muster::io {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> kLockFiles = {"lock", "ranks.lock", "owner.json", "token"};

void remove_or_throw(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);  // a symbolic link is removed, not followed
  if (error) throw core::OutputError(fmt::format("cannot remove {}: {}", path.string(), error.message()));
}

bool lies_below(const fs::path& path, const fs::path& directory) {
  const auto root = fs::weakly_canonical(directory), parent = fs::weakly_canonical(path.parent_path());
  return std::mismatch(root.begin(), root.end(), parent.begin(), parent.end()).first == root.end();
}

std::vector<std::string> listed_files(const std::string& directory) {
  std::vector<std::string> names;
  try {
    if (const auto manifest = read_manifest(directory)) {
      for (const auto& file : manifest->files) names.push_back(file.name);
    }
  } catch (const core::DataError& error) {
    core::log::warning("starting over: {}", error.what());
  }
  return names;
}

}  // namespace

void forget_results(const std::string& directory) {
  const auto names = listed_files(directory);
  const fs::path root(directory);
  remove_or_throw(root / "manifest.json");
  core::sync_directory(directory);
  for (const auto& name : names) {
    if (lies_below(root / name, root)) remove_or_throw(root / name);
  }
}

void clear_run_folder(const std::string& run_folder) {
  std::vector<fs::path> doomed;
  for (const auto& entry : fs::directory_iterator(run_folder)) {
    const auto name = entry.path().filename().string();
    if (std::find(kLockFiles.begin(), kLockFiles.end(), name) == kLockFiles.end())
      doomed.push_back(entry.path());
  }
  // The identity goes last: segments without it would look like those of the next job.
  std::stable_partition(doomed.begin(), doomed.end(),
                        [](const fs::path& path) { return path.filename() != "identity.json"; });
  for (const auto& path : doomed) remove_or_throw(path);
  core::sync_directory(run_folder);
}

void remove_run_folder(const std::string& run_folder) {
  clear_run_folder(run_folder);
  std::error_code error;
  fs::remove_all(run_folder, error);
  // Another rank may still hold a file open; on NFS that leaves a name behind. Harmless, and the results are
  // complete.
  if (error) core::log::debug("{} stays: {}", run_folder, error.message());
}

}  // namespace muster::io
