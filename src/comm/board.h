// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "muster/comm/watchdog.h"
#include "muster/core/file.h"

namespace muster::comm {

/// The file behind the watchdog: one slot of fixed size a rank, sealed with a CRC, so that a reader notices a
/// slot that is just being written, and carrying the job's number, so that it notices one that an earlier run
/// left.
class Board {
 public:
  Board(const std::string& path, int rank, int ranks, std::uint64_t job);
  /// False when the file cannot be written; the job goes on without.
  bool write(const Beat& beat);
  /// All slots; one that is missing, torn or from another job has counter 0.
  std::vector<Beat> read() const;

 private:
  std::string path_;
  int rank_;
  int ranks_;
  std::uint64_t job_;
  core::UniqueFd file_;
};

}  // namespace muster::comm
