// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/phases/item_phase.h"

namespace muster::app {

/// The whole program for a set of phases: parses the line, starts MPI where the command needs it (or mpirun,
/// where nobody started it), runs the command and returns the exit code. Tests add a phase of their own.
int run_program(int argc, char** argv, const phases::Registry& registry);

}  // namespace muster::app
