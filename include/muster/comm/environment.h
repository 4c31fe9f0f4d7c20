// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

namespace muster::comm {

/// What `info --doctor` looks at. None of these starts MPI.

std::string mpi_version();    ///< "Open MPI v4.1.4"
std::string find_mpirun();    ///< path of the mpirun on PATH; "" when there is none
std::size_t allowed_cores();  ///< cores this process may run on
/// Where Slurm starts steps: whether srun offers PMIx, in words; "" outside Slurm.
std::string pmix_hint();

}  // namespace muster::comm
