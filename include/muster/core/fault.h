// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

namespace muster::core {

/// Planted faults for the tests of trouble, in the manner of RocksDB's white-box crash test. MUSTER_FAULT
/// names them: "point:rank:count:action[,...]", e.g. "segment.synced:1:3:kill" kills rank 1 the third time it
/// passes that point. rank * means every rank; actions: kill (SIGKILL), stop (SIGSTOP), throw
/// (InternalError), oom (std::bad_alloc), hang (sleeps for ever), usr1 (raises SIGUSR1), eio (the caller
/// reports a failed write with EIO).
void set_fault_rank(int rank);
/// Marks a named point. Returns true when the caller shall fail its system call with EIO. Costs one load when
/// no fault is set.
bool fault_point(std::string_view point);

}  // namespace muster::core
