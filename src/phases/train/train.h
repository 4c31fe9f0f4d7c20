// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/phases/item_phase.h"

namespace muster::phases {

/// The command `train` has tasks, each with keys of its own; train.task says which.
/// classifier: fine-tuning of a text encoder as a (hierarchical) multi-label classifier.
PhaseInfo train_phase();
/// autoencoder: an AutoencoderKL on pictures.
PhaseInfo autoencoder_phase();
/// text_to_image: a diffusion model and its text encoder on captioned pictures.
PhaseInfo text_to_image_phase();

/// train.task, for the schemas of all of them.
config::Key task_key();

}  // namespace muster::phases
