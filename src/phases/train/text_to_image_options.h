// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "phases/train/captions.h"
#include "phases/train/noise_objective.h"
#include "phases/train/picture_options.h"
#include "phases/train/sample_pictures.h"

namespace muster::phases {

/// The keys of the task `text_to_image`, as values.
struct TextToImageOptions : PictureOptions {
  std::string pipeline;  ///< model.path: a pipeline to train on from; "" for a new model
  std::string vae;       ///< the autoencoder's folder
  models::UNet2DConfig unet;
  models::ClipTextConfig text;  ///< the end token is the vocabulary's last
  CaptionConfig captions;
  ObjectiveConfig objective;
  SampleConfig samples;
};

/// All keys, the common ones included.
config::Schema text_to_image_schema();
/// ConfigError for combinations that make no sense; DataError where a folder does.
TextToImageOptions read_text_to_image_options(const config::Config& config);

}  // namespace muster::phases
