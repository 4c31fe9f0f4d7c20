// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "muster/comm/communicator.h"

namespace muster::comm {

/// Hands out dynamic work: a thread on rank 0 answers requests with send/receive (one-sided counters stall
/// over TCP when rank 0 computes). Every rank, rank 0 too, asks through the same object. Construction and
/// destruction are collective.
class WorkService {
 public:
  /// On rank 0 `next(rank)` gives the next piece of work for a rank, nullopt when there is no more (for now);
  /// it is called by one thread at a time. `communicator` is the service's own duplicate.
  WorkService(Communicator communicator, std::function<std::optional<std::string>(int rank)> next);
  ~WorkService();
  /// Blocks until rank 0 answers (milliseconds).
  std::optional<std::string> request();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::comm
