// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <mpi.h>

#include "muster/comm/communicator.h"
#include "muster/core/unique_handle.h"

namespace muster::comm {

/// Throws CommError with MPI's text when `code` is an error: "MPI_Bcast failed: ...".
void check_mpi(int code, const char* call);

/// The MPI type that moves `dtype`; the 16-bit floats travel as 16-bit words.
MPI_Datatype mpi_type(DType dtype);

/// Frees nothing once MPI is finalized: a communicator may outlive its session on an error path.
struct MpiCommTraits {
  using Handle = MPI_Comm;
  static MPI_Comm invalid() { return MPI_COMM_NULL; }
  static int close(MPI_Comm comm) noexcept;
};
using UniqueMpiComm = core::UniqueHandle<MpiCommTraits>;

struct MpiOpTraits {
  using Handle = MPI_Op;
  static MPI_Op invalid() { return MPI_OP_NULL; }
  static int close(MPI_Op op) noexcept;
};
using UniqueMpiOp = core::UniqueHandle<MpiOpTraits>;

UniqueMpiComm duplicate_comm(MPI_Comm comm);

}  // namespace muster::comm
