// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "muster/comm/communicator.h"

namespace muster::comm {

/// Where this rank runs.
struct RankPlace {
  int rank = 0;
  int size = 1;
  int local_rank = 0;  ///< among the ranks of this node (shared-memory split)
  int local_size = 1;
  int node = 0;  ///< nodes numbered by their lowest rank
  int nodes = 1;
  std::string host;
  std::vector<int> cores;  ///< this rank's share of the cores it may run on; never empty
  std::uint64_t job = 0;   ///< a number that all ranks of this run share and no other run has
};

/// Owns MPI: initializes with MPI_THREAD_MULTIPLE (mpi_yield_when_idle set before), finalizes at the end of
/// main. Signals must be blocked before (see SignalThread). One a process.
class Session {
 public:
  /// `argc/argv` are main's. CommError when MPI cannot start, ConfigError in an srun step of several tasks
  /// that are all worlds of one.
  Session(int* argc, char*** argv);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const RankPlace& place() const { return place_; }
  Communicator& world() { return world_; }
  /// Ends every rank at once with `code`. Logs nothing: the caller has.
  [[noreturn]] static void abort(int code);
  /// No MPI_Finalize in the destructor any more: after a failed parallel write it would hang or crash.
  void abandon() { abandoned_ = true; }

 private:
  RankPlace place_;
  Communicator world_;
  bool abandoned_ = false;
};

/// Divides cores between the ranks of a node: ranks that see one and the same mask share it evenly and
/// contiguously in their order, a rank with a mask of its own keeps it. `masks` holds one sorted list a local
/// rank; never empty shares.
std::vector<int> core_share(const std::vector<std::vector<int>>& masks, int local_rank);

/// "rank 3/8 node7" for log lines; a size of one gives "".
std::string rank_label(const RankPlace& place);

}  // namespace muster::comm
