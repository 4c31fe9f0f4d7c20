// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/comm/session.h"

namespace muster::test {

/// The one session of a multi-rank test program (mpi_main.cpp).
comm::Session& session();

}  // namespace muster::test
