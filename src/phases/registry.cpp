// SPDX-License-Identifier: Apache-2.0
#include "muster/phases/item_phase.h"
#include "phases/encode/encode.h"

namespace muster::phases {

Registry all_phases() {
  return {encode_phase()};
}

}  // namespace muster::phases
