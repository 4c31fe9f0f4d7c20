// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace muster::comm {

/// How this process was started.
enum class Launch {
  kUnderMpi,  ///< mpirun or srun --mpi=pmix gave it a world
  kAlone,     ///< no launcher
};
/// ConfigError (exit 2) in an srun step of several tasks without PMIx, naming `srun --mpi=pmix` as the
/// remedy.
Launch detect_launch();

/// Starts `mpirun -n ranks` on this same program and arguments with the right binding, oversubscription and
/// quietness, waits, forwards SIGINT/SIGTERM/SIGUSR1/SIGUSR2, and returns the exit code of the ranks (128+n
/// for a signal).
int launch_self(int ranks, const std::vector<std::string>& arguments);
/// The command that launch_self runs, for messages and tests.
std::vector<std::string> launch_command(int ranks, const std::vector<std::string>& arguments);

}  // namespace muster::comm
