// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "muster/models/autoencoder_kl.h"
#include "muster/models/clip_text.h"
#include "muster/models/unet2d.h"

/// UNet2D, AutoencoderKL and ClipText in training: their weights as a list, and the folders they become.
namespace muster::models {

/// All lists of weights below are in this order.
struct PartParameter {
  std::string name;  ///< as in the checkpoint
  std::vector<std::int64_t> shape;
  bool decays = true;  ///< false for biases and norms
};
std::vector<PartParameter> part_parameters(nn::Module& part);

/// First weights of a new model, fp32 on the host, a function of the seed and the place in the list alone:
/// products and convolutions as LibTorch's modules begin (uniform, bounded by 1 / sqrt(inputs)), embeddings
/// normal with 0.02, norms 1, biases 0. What ends in `zeroed` ("conv_out.weight") begins at 0.
std::vector<at::Tensor> first_weights(nn::Module& part, std::uint64_t seed, const std::string& zeroed = "");
/// fp32 copies on the host of what load_component() has put into the parameters.
std::vector<at::Tensor> loaded_weights(nn::Module& part);

/// Makes the parameters leaves that require gradients, on the weights' own memory; returns them.
std::vector<at::Tensor> set_leaves(nn::Module& part, std::span<const at::Tensor> weights);
/// Plain values, for a model that is prepared next.
void set_weights(nn::Module& part, std::span<const at::Tensor> weights);

enum class SavedType { kFp32, kFp16, kBf16 };
SavedType saved_type_from_name(const std::string& name);  ///< "fp32", "fp16", "bf16"

struct SavedPart {
  nn::Module& part;
  std::span<const at::Tensor> weights;  ///< fp32 on the host
  SavedType type = SavedType::kFp32;
};
/// The folder of a component in diffusers' layout: config.json and the weights. Files are written and synced
/// one by one; the caller renames the folder.
void save_autoencoder(const std::string& folder, const AutoencoderKLConfig& config, const SavedPart& part);
void save_unet(const std::string& folder, const UNet2DConfig& config, const SavedPart& part);
void save_clip_text(const std::string& folder, const ClipTextConfig& config, const SavedPart& part);

/// How noise is added in training, for scheduler/scheduler_config.json.
struct SavedSchedule {
  std::string class_name = "DDIMScheduler";
  std::int64_t steps = 1000;
  std::string betas = "scaled_linear";
  double beta_start = 0.00085, beta_end = 0.012;
  bool zero_terminal_snr = false;
  std::string prediction = "epsilon";  ///< "v_prediction"
};
/// model_index.json of a StableDiffusionPipeline, scheduler/, and tokenizer/'s configs beside its vocabulary.
void save_pipeline_index(const std::string& folder, const SavedSchedule& schedule);
void save_clip_tokenizer(const std::string& folder, const std::string& vocabulary, const std::string& merges,
                         std::int64_t positions);

}  // namespace muster::models
