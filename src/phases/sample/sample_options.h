// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

#include "muster/config/schema.h"
#include "muster/device/device.h"
#include "muster/diffusion/text_to_image.h"
#include "muster/formats/prompt_row.h"

namespace muster::phases {

/// How the ranks of a job share the work.
enum class Parallel {
  kPrompt,  ///< each rank works on pictures of its own
  kUnet,    ///< a group of ranks shares the UNet's batch of one picture after another
  kNone,    ///< one rank works
};
enum class Keep { kNo, kYes };
enum class PairsFormat { kNone, kJsonl, kCsv };

struct SampleOptions {
  diffusion::PipelineConfig pipeline;
  diffusion::PictureRequest usual;  ///< what a row that says nothing asks for; no prompt
  std::string sampler_name;         ///< the usual one's, also where it is the model's own
  std::uint64_t seed = 0;
  Parallel parallel = Parallel::kPrompt;
  int unet_ranks = 2;
  std::uint32_t batch_size = 0;  ///< 0: by the work
  std::string latents_path;      ///< initial noise; empty: from the seeds
  Keep latents = Keep::kNo;
  Keep contact_sheet = Keep::kYes;
  std::uint32_t thumbnail = 256;
  PairsFormat pairs = PairsFormat::kNone;
  std::string clip_model;
};

/// The keys of the phase, those of all phases included.
config::Schema sample_schema();
/// Without what the model decides.
SampleOptions read_sample_options(const config::Config& config, const device::Device& device);
/// Sizes and sampler that the config leaves to the model.
void complete(SampleOptions& options, const config::Config& config,
              const diffusion::PipelineDescription& description);

/// What a row of the input asks for.
diffusion::PictureRequest request_of(const formats::PromptRow& row, const SampleOptions& options);

}  // namespace muster::phases
