// SPDX-License-Identifier: Apache-2.0
#include "muster/phases/item_phase.h"
#include "phases/encode/encode.h"
#include "phases/infer/infer.h"
#include "phases/sample/sample.h"
#include "phases/teleclass/score.h"
#include "phases/teleclass/similarity.h"
#include "phases/teleclass/teleclass.h"
#include "phases/teleclass/zero_shot.h"
#include "phases/train/train.h"

namespace muster::phases {

Registry all_phases() {
  return {encode_phase(), train_phase(),     autoencoder_phase(), text_to_image_phase(), infer_phase(),
          sample_phase(), teleclass_phase(), similarity_phase(),  zero_shot_phase(),     score_phase()};
}

}  // namespace muster::phases
