// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "muster/comm/communicator.h"

namespace muster::training {

/// A complete one, its files checked.
struct Checkpoint {
  std::uint64_t step = 0;
  std::string folder;
  std::string payload;  ///< the caller's text, as it was given
};

enum class Best { kNo, kYes };

/// A folder of checkpoints, one in each `step_000000123/`. A checkpoint is written under another name, its
/// files are synced, then complete.json (names, sizes and SHA-256 of all of them), and it is renamed: what
/// has its name is whole, and a write that is cut off harms nothing that was there. All calls are collective.
class Checkpoints {
 public:
  struct Config {
    std::string folder;
    int keep = 2;  ///< the newest that many stay, and the best one
  };
  Checkpoints(Config config, comm::Communicator world);

  struct Request {
    std::uint64_t step = 0;
    std::string payload;  ///< of rank 0; what else the caller needs to go on (the sampler's position, say)
    Best best = Best::kNo;
    /// Called on every rank with the folder to write into; writes and syncs this rank's files, returns their
    /// names. May be collective; throws on all ranks or on none.
    std::function<std::vector<std::string>(const std::string& folder)> write;
  };
  /// OutputError when it cannot be written; the checkpoints before it are as they were.
  void save(const Request& request);

  /// The newest whole one; a damaged one is passed over with a warning.
  std::optional<Checkpoint> newest();
  /// The last that was saved as Best::kYes; nothing, with a warning, when it is damaged.
  std::optional<Checkpoint> best();

 private:
  struct Entry;
  std::vector<Entry> entries() const;
  std::string best_name() const;
  std::string path(const std::string& name) const;
  void write(const Request& request, const std::string& temporary);
  void complete(const Request& request, const std::string& folder,
                std::span<const std::string> files_of_ranks);
  void publish(const std::string& temporary, const Request& request);
  void prune(std::uint64_t newest_step);
  std::optional<Checkpoint> open(const std::string& name);

  Config config_;
  comm::Communicator world_;
};

}  // namespace muster::training
