// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "muster/config/schema.h"
#include "muster/models/trainable_part.h"
#include "phases/train/picture_set.h"
#include "phases/train/step_options.h"

namespace muster::phases {

enum class Flip { kNever, kHalfOfThem };

/// What the tasks on pictures have in common.
struct PictureOptions : StepOptions {
  PictureInput pictures;
  Flip flip = Flip::kNever;
  std::uint64_t micro_batch = 8;
  models::SavedType saved_type = models::SavedType::kFp32;
};

struct AutoencoderOptions : PictureOptions {
  models::AutoencoderKLConfig model;
  double l1_weight = 1, l2_weight = 1, edge_weight = 0, kl_weight = 1e-4;
};

/// All keys of a task, the common ones included.
config::Schema autoencoder_schema();
/// ConfigError for combinations that make no sense.
AutoencoderOptions read_autoencoder_options(const config::Config& config);

/// For the schemas of the tasks on pictures: keys that all of them have, without those that mean nothing to
/// them.
config::Schema picture_schema();
void read_picture_options(const config::Config& config, PictureOptions& options);
std::vector<std::int64_t> sizes_of(const config::Config& config, const std::string& key);

}  // namespace muster::phases
