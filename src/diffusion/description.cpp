// SPDX-License-Identifier: Apache-2.0
#include "diffusion/description.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>

#include "diffusion/guidance.h"
#include "diffusion/prompts.h"
#include "diffusion/sampler.h"
#include "muster/core/error.h"
#include "muster/diffusion/text_to_image.h"
#include "muster/models/adapters.h"

namespace muster::diffusion {

struct PipelineDescription::Impl {
  explicit Impl(models::DiffusionFolder f) : folder(std::move(f)) {}
  models::DiffusionFolder folder;
  mutable std::once_flag tokens_read;
  mutable std::unique_ptr<const PromptTokens> tokens;
};

namespace {

/// Pictures above it are taken for a mistake: a side of 32768 needs 25 GB for its pixels alone.
constexpr std::uint32_t kMostPixels = 16384;

std::int64_t element_bytes(models::ComputeType type) {
  return type == models::ComputeType::kFp32 ? 4 : 2;
}

/// What live adapters add, from their files' headers and the structure of what they change.
double live_adapter_bytes(const PipelineConfig& config, const models::DiffusionFolder& folder) {
  if (config.adapters.empty() || config.adapter_application == AdapterApplication::kMerged) return 0;
  std::vector<models::AdapterFile> files;
  for (const AdapterChoice& choice : config.adapters) files.push_back({choice.path, choice.scale});
  models::UNet2D unet(folder.unet);
  std::vector<models::AdapterTarget> targets{{"unet", &unet}};
  std::vector<std::unique_ptr<models::ClipText>> encoders;
  for (std::size_t i = 0; i < folder.text_encoders.size(); ++i) {
    encoders.push_back(std::make_unique<models::ClipText>(folder.text_encoders[i]));
    targets.push_back({folder.text_encoder_folders[i], encoders.back().get()});
  }
  return models::Adapters(files, targets).bytes();
}

/// At their peak: the UNet's activations of all rows, or those of the VAE for the pictures decoded together
/// (of one tile where it works in tiles), beside the batch's pictures and latents.
double buffer_bytes(const PipelineConfig& config, const models::DiffusionFolder& folder, std::uint32_t width,
                    std::uint32_t height, std::uint32_t batch) {
  const std::int64_t factor = folder.vae.factor(), element = element_bytes(config.compute_type);
  const std::int64_t h = height / factor, w = width / factor;
  const double rows = 2.0 * batch;  // guidance
  const double unet = rows * models::UNet2D(folder.unet).activation_bytes(h, w, element);
  const bool fp32_vae = config.compute_type == models::ComputeType::kFp32 ||
                        (config.compute_type == models::ComputeType::kFp16 && folder.vae.force_upcast);
  const std::int64_t tile =
      config.vae_tile == 0 ? std::max(h, w) : std::max<std::int64_t>(2, config.vae_tile / factor);
  const double together = std::min<double>(batch, std::max<std::uint32_t>(1, config.vae_batch));
  const double vae =
      together * models::AutoencoderKL(folder.vae, models::AutoencoderParts::kDecoder)
                     .decode_activation_bytes(std::min(h, tile), std::min(w, tile), fp32_vae ? 4 : 2);
  const double pixels = 1.0 * width * height, latents = static_cast<double>(folder.unet.in_channels * h * w);
  const double kept =
      batch * (pixels * (3 + 3 * 4) + latents * 4 * 8);  // pictures; samples, outputs, history
  return std::max(unet, vae) + kept;
}

void check_size(const PipelineDescription& pipeline, const char* what, std::uint32_t pixels) {
  if (pixels == 0 || pixels % pipeline.factor != 0)
    throw core::ConfigError(
        fmt::format("{} {} is not a multiple of {}: this pipeline's VAE makes {} x {} pixels of each latent "
                    "pixel; nearest: {}",
                    what, pixels, pipeline.factor, pipeline.factor, pipeline.factor,
                    std::max(1U, (pixels + pipeline.factor / 2) / pipeline.factor) * pipeline.factor));
  if (pixels > kMostPixels)
    throw core::ConfigError(
        fmt::format("{} {} is above {}, the most that is made", what, pixels, kMostPixels));
}

void check_finite(const char* what, double value, double least, double most) {
  if (!(value >= least && value <= most))
    throw core::ConfigError(fmt::format("{} {} is not between {} and {}", what, value, least, most));
}

}  // namespace

SchedulerSource scheduler_source(const models::DiffusionFolder& folder) {
  const bool xl = folder.kind == models::PipelineKind::kStableDiffusionXL;
  return {folder.scheduler, folder.scheduler_class,
          xl ? SchedulerHome::kStableDiffusionXL : SchedulerHome::kStableDiffusion};
}

PipelineDescription describe_pipeline(const std::string& folder) {
  auto read = models::DiffusionFolder::read(folder);
  PipelineDescription out;
  const bool xl = read.kind == models::PipelineKind::kStableDiffusionXL;
  out.kind = xl ? "StableDiffusionXLPipeline" : "StableDiffusionPipeline";
  out.sampler = sampler_name_of(scheduler_source(read));
  out.factor = static_cast<std::uint32_t>(read.vae.factor());
  out.latent_channels = static_cast<std::uint32_t>(read.vae.latent_channels);
  out.default_width = out.default_height = static_cast<std::uint32_t>(read.unet.sample_size) * out.factor;
  out.impl = std::make_shared<const PipelineDescription::Impl>(std::move(read));
  return out;
}

std::vector<std::string> pipeline_files(const std::string& folder) {
  return models::DiffusionFolder::read(folder).files();
}

std::vector<std::pair<std::string, double>> PipelineDescription::memory(const PipelineConfig& config,
                                                                        std::uint32_t width,
                                                                        std::uint32_t height,
                                                                        std::uint32_t batch) const {
  std::vector<std::pair<std::string, double>> out;
  for (const auto& [part, bytes] : models::part_bytes(impl->folder, element_bytes(config.compute_type))) {
    const bool upcast =
        part == "VAE" && config.compute_type == models::ComputeType::kFp16 && impl->folder.vae.force_upcast;
    out.emplace_back(part, upcast ? 2 * bytes : bytes);
  }
  out.emplace_back("adapters", live_adapter_bytes(config, impl->folder));
  out.emplace_back("buffers", buffer_bytes(config, impl->folder, width, height, batch));
  return out;
}

PromptLength PipelineDescription::prompt_length(const std::string& prompt) const {
  std::call_once(impl->tokens_read, [this] {
    impl->tokens = std::make_unique<PromptTokens>(impl->folder, LongPrompt::kTruncate);
  });
  return impl->tokens->length(prompt);
}

double PipelineDescription::flops(const PictureRequest& request) const {
  const models::DiffusionFolder& folder = impl->folder;
  const std::int64_t h = request.height / factor, w = request.width / factor;
  const auto sampler = make_sampler(read_scheduler(scheduler_source(folder), request.sampler), request.steps);
  const double rows = is_guided(request) ? 2 : 1;
  double text = 0;
  const std::int64_t tokens = folder.prompt_tokens;
  for (const models::ClipTextConfig& encoder : folder.text_encoders)
    text += models::ClipText(encoder).flops(tokens);
  const double unet = models::UNet2D(folder.unet).flops(h, w, tokens);
  const double vae = models::AutoencoderKL(folder.vae, models::AutoencoderParts::kDecoder).decode_flops(h, w);
  return rows * (text + static_cast<double>(sampler->times().size()) * unet) + vae;
}

void check_request(const PipelineDescription& pipeline, const PictureRequest& request) {
  check_size(pipeline, "width", request.width);
  check_size(pipeline, "height", request.height);
  check_finite("guidance", request.guidance, 0, 1000);
  check_finite("guidance_rescale", request.guidance_rescale, 0, 1);
  const auto source = scheduler_source(pipeline.impl->folder);
  make_sampler(read_scheduler(source, request.sampler), request.steps);
  const std::size_t latents = std::size_t{pipeline.latent_channels} * (request.height / pipeline.factor) *
                              (request.width / pipeline.factor);
  if (!request.latents.empty() && request.latents.size() != latents)
    throw core::ConfigError(fmt::format("{} latents are given for a picture of {} x {}, which has {}",
                                        request.latents.size(), request.width, request.height, latents));
}

}  // namespace muster::diffusion
