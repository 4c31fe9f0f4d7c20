// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "muster/diffusion/text_to_image.h"
#include "muster/models/adapters.h"
#include "muster/models/diffusion_folder.h"
#include "muster/nn/module.h"

namespace muster::diffusion {

/// The models of a pipeline, prepared and const, shared by the workers of a rank. Loading is strict and
/// checks all of them at once, with the adapters. Without offload they stay prepared; with it a part is
/// prepared from the host's memory when somebody asks for it, and goes when nobody holds it.
class Parts {
 public:
  Parts(const PipelineConfig& config, const models::DiffusionFolder& folder);
  ~Parts();

  std::shared_ptr<const models::ClipText> text_encoder(std::size_t index);
  std::shared_ptr<const models::UNet2D> unet();
  std::shared_ptr<const models::AutoencoderKL> vae();
  /// The VAE in fp32, for pictures that 16 bits spoil.
  std::shared_ptr<const models::AutoencoderKL> exact_vae();
  bool vae_is_exact() const { return vae_target_.dtype == c10::ScalarType::Float; }
  const c10::Device& device() const { return target_.device; }

  /// For a rank that only computes the UNet of others.
  void keep_unet_only();

 private:
  struct Part;
  std::shared_ptr<nn::Module> build(const std::string& component) const;
  void load();
  void adapt(models::AdapterUse use, Part* only);
  std::shared_ptr<nn::Module> take(Part& part);

  PipelineConfig config_;
  models::DiffusionFolder folder_;
  nn::ComputeTarget target_, vae_target_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Part>> text_encoders_;
  std::unique_ptr<Part> unet_, vae_, exact_vae_;
};

/// How a pipeline computes. ConfigError when this machine cannot.
nn::ComputeTarget compute_target(const PipelineConfig& config);

}  // namespace muster::diffusion
