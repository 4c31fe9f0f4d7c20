// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace muster::comm {

/// ConfigError when this is one of several tasks of an srun step, each of which became a world of its own.
void require_one_world(int world_size);

}  // namespace muster::comm
