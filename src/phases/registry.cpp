// SPDX-License-Identifier: Apache-2.0
#include "muster/phases/item_phase.h"
#include "phases/encode/encode.h"
#include "phases/infer/infer.h"
#include "phases/train/train.h"

namespace muster::phases {

Registry all_phases() {
  return {encode_phase(), train_phase(), infer_phase()};
}

}  // namespace muster::phases
