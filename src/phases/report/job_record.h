// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "muster/io/run_directory.h"
#include "phases/runner/rank_activity.h"

namespace muster::phases {

/// One start of a job, as its ranks tell it; sorted by rank.
struct StartRecord {
  std::string utc;
  std::vector<RankActivity> ranks;

  double seconds() const;  ///< of the rank that was there longest
  std::uint64_t items() const;
  std::uint64_t length() const;
  double busy() const;
  double computing() const;   ///< seconds of the stage, of the slowest rank
  int workers() const;        ///< of all ranks
  std::string state() const;  ///< "done", "stopped", why it ended, or "no end was written"
  bool complete() const { return state() == "done"; }
};

/// A line of failures.jsonl or rejects.jsonl.
struct Mishap {
  std::string where, id, reason;
};
/// failures.jsonl or rejects.jsonl: how many, of which kinds, and the first ones.
struct Mishaps {
  std::uint64_t count = 0;
  std::uint64_t read = 0;                                    ///< lines looked into for their kinds
  std::vector<std::pair<std::string, std::uint64_t>> kinds;  ///< the most frequent first
  std::vector<Mishap> first;
};

/// What an output directory tells about its job, finished or not.
struct JobRecord {
  std::string directory;
  std::string job;
  std::optional<io::Manifest> manifest;
  std::string resolved;  ///< resolved.yaml
  std::vector<StartRecord> starts;
  Mishaps failures, rejects;

  std::uint64_t rows() const;
  /// Items whose results are there: as the manifest says, else as many as the starts did, which may count a
  /// few twice after a kill.
  std::uint64_t items_done() const;
  std::string fact(const std::string& name) const;  ///< of the manifest; "" when it has none
};

/// DataError when nothing in the directory tells about a job. `accounts`: last lines of the ranks of the
/// present start, which need not have reached this machine through the file system yet.
JobRecord read_job_record(const std::string& directory, const std::vector<std::string>& accounts = {});

}  // namespace muster::phases
