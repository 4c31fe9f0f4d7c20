// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/comm/communicator.h"

namespace muster::comm {

/// The MPI communicator behind `communicator`, as a pointer to an MPI_Comm, for libraries that want one
/// (HDF5's MPI-IO); null when its backend is not MPI. Valid as long as the communicator lives.
const void* mpi_handle(Communicator& communicator);

}  // namespace muster::comm
