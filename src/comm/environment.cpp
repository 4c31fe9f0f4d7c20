// SPDX-License-Identifier: Apache-2.0
#include "muster/comm/environment.h"

#include <mpi.h>
#include <unistd.h>

#include "comm/affinity.h"
#include "muster/core/env.h"
#include "muster/core/strings.h"

namespace muster::comm {

std::string mpi_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  // One of the few calls that are allowed before MPI_Init.
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "unknown";
  const std::string_view whole(text, static_cast<std::size_t>(length));
  return std::string(whole.substr(0, whole.find_first_of(",\n")));
}

std::string find_mpirun() {
  for (const auto& folder : core::split(core::env("PATH").value_or(""), ':')) {
    const std::string path = folder + "/mpirun";
    if (!folder.empty() && ::access(path.c_str(), X_OK) == 0) return path;
  }
  return "";
}

std::size_t allowed_cores() {
  return current_affinity().size();
}

std::string pmix_hint() {
  if (!core::env("SLURM_JOB_ID")) return "";
  if (core::env("PMIX_RANK")) return "this step has PMIx";
  return "no PMIx in this step: start ranks with srun --mpi=pmix (srun --mpi=list shows what the site "
         "offers) or with mpirun";
}

}  // namespace muster::comm
