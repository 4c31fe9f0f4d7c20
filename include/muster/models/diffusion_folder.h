// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "muster/formats/json.h"
#include "muster/formats/safetensors.h"
#include "muster/models/autoencoder_kl.h"
#include "muster/models/clip_text.h"
#include "muster/models/unet2d.h"

namespace muster::models {

enum class PipelineKind { kStableDiffusion, kStableDiffusionXL };

/// A pipeline in diffusers' layout, as its config files tell it; no weight is read. Components of other
/// pipelines (safety_checker, feature_extractor) are ignored by name; an unknown pipeline class or component
/// class is a DataError.
struct DiffusionFolder {
  std::string path;
  PipelineKind kind = PipelineKind::kStableDiffusion;
  std::vector<ClipTextConfig> text_encoders;                         ///< one, or SDXL's two
  std::vector<std::string> text_encoder_folders, tokenizer_folders;  ///< relative
  std::int64_t prompt_tokens = 0;  ///< of a row, special ones included: what all encoders and tokenizers take
  UNet2DConfig unet;
  AutoencoderKLConfig vae;
  formats::JsonValue scheduler;        ///< scheduler_config.json
  std::string scheduler_class;         ///< as model_index.json has it
  bool zeros_for_empty_prompt = true;  ///< force_zeros_for_empty_prompt (SDXL)
  static DiffusionFolder read(const std::string& path);
  /// Files that decide the result, relative names, sorted.
  std::vector<std::string> files() const;
};

/// The weights of a component ("unet"): STEM.safetensors or its shards, or the fp16 variant where only that
/// is there (STEM.fp16.safetensors, STEM.safetensors.index.fp16.json). The stem is "model" for text encoders,
/// else "diffusion_pytorch_model".
formats::Safetensors open_component(const std::string& pipeline, const std::string& component);

/// Strict loading: one DataError lists every missing, mis-shaped and unused tensor. Knows the names that old
/// checkpoints have (position_ids; the VAE's attention as query/key/value/proj_attn). The checkpoint must
/// outlive prepare().
void load_component(nn::Module& module, const formats::Safetensors& checkpoint,
                    const std::string& config_path);

/// Weight bytes of each part in a type of `element` bytes, by the structure alone: "text encoders", "UNet",
/// "VAE" (its decoder, which is what pictures need).
struct PartBytes {
  std::string part;
  double bytes = 0;
};
std::vector<PartBytes> part_bytes(const DiffusionFolder& folder, std::int64_t element);

}  // namespace muster::models
