// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "muster/device/device.h"
#include "muster/models/text_encoder.h"

/// Text-to-image pipelines (Stable Diffusion, SDXL) without tensors in their interface.
namespace muster::comm {
class Communicator;
}

namespace muster::diffusion {

enum class Offload {
  kNone,
  kModel,       ///< a part (text encoders, UNet, VAE) is on the device only while it works
  kSequential,  ///< and of text encoders and UNet only the layer that works; the rest is in the host's memory
};
enum class LongPrompt {
  kTruncate,  ///< to the encoder's positions, counted
  kChunk,     ///< in chunks of 75 tokens, encoded one by one and joined; the shorter of prompt and negative
              ///< prompt is filled with empty ones
};
enum class AdapterApplication { kMerged, kLive };

struct AdapterChoice {
  std::string path;
  double scale = 1;
};

struct PipelineConfig {
  std::string folder;
  device::Device device;
  models::ComputeType compute_type = models::ComputeType::kFp32;
  std::vector<AdapterChoice> adapters;
  AdapterApplication adapter_application = AdapterApplication::kMerged;
  Offload offload = Offload::kNone;
  LongPrompt long_prompt = LongPrompt::kTruncate;
  std::uint32_t vae_tile = 0;   ///< picture pixels a side above which the VAE works in tiles; 0: never
  std::uint32_t vae_batch = 1;  ///< pictures decoded together
};

/// What is asked for one picture. Pictures of one call agree in width, height, steps, sampler and in whether
/// guidance is on (above 1).
struct PictureRequest {
  std::string prompt, negative_prompt;  ///< valid UTF-8
  std::uint64_t seed = 0;               ///< decides the noise, with nothing else
  std::uint32_t width = 512, height = 512;
  std::uint32_t steps = 50;
  double guidance = 7.5;
  double guidance_rescale = 0;     ///< Lin et al., 2023, section 3.4
  std::string sampler;             ///< "": the folder's own scheduler
  std::span<const float> latents;  ///< initial noise of unit variance [C, H/f, W/f]; empty: from the seed
};

enum class Verdict {
  kGood,
  kNotFinite,  ///< a NaN or an infinity in the decoded picture
  kBlack,      ///< no channel of any pixel above 4 of 255
  kFlat,       ///< every channel within 4 of 255 over the whole picture
};

struct Picture {
  std::uint32_t width = 0, height = 0;
  std::vector<std::uint8_t> rgb;  ///< [height, width, 3]
  std::vector<float> latents;     ///< final ones, [C, H/f, W/f], as the sampler leaves them
  Verdict verdict = Verdict::kGood;
  bool decoded_again = false;  ///< in fp32, because the first picture was bad
};

/// A prompt's tokens with both special ones, of the longest of the pipeline's tokenizers.
struct PromptLength {
  std::uint32_t tokens = 0;
  std::uint32_t most = 0;  ///< that one pass of the text encoder takes
};

/// What config files alone tell.
struct PipelineDescription {
  std::string kind;          ///< "StableDiffusionPipeline"
  std::string sampler;       ///< what the folder's own scheduler is here: "euler"
  std::uint32_t factor = 8;  ///< picture pixels a latent pixel
  std::uint32_t latent_channels = 4;
  std::uint32_t default_width = 512, default_height = 512;
  /// Bytes by part at a compute type: "text encoders", "UNet", "VAE", "adapters", "buffers" for `batch`
  /// pictures of a size.
  std::vector<std::pair<std::string, double>> memory(const PipelineConfig& config, std::uint32_t width,
                                                     std::uint32_t height, std::uint32_t batch) const;
  /// Floating-point operations of one picture.
  double flops(const PictureRequest& request) const;
  /// As TextToImage::prompt_length; the tokenizers are read at the first call. From any thread.
  PromptLength prompt_length(const std::string& prompt) const;

  struct Impl;
  std::shared_ptr<const Impl> impl;
};
/// DataError / ConfigError name file and key.
PipelineDescription describe_pipeline(const std::string& folder);
/// Files that decide the result, relative names, sorted.
std::vector<std::string> pipeline_files(const std::string& folder);
/// Names of samplers: ddim, pndm, euler, euler_karras, euler_a, dpmpp_2m, dpmpp_2m_karras, dpmpp_2m_sde,
/// unipc, flow_euler. A name keeps the options of the folder's scheduler_config.json; what is not there has
/// the named class's default. Samples are kept in fp32 whatever the compute type.
std::vector<std::string> sampler_names();
/// ConfigError when a size, sampler or step count cannot be done with this pipeline; it says why.
void check_request(const PipelineDescription& pipeline, const PictureRequest& request);

/// The seed of the `copy`-th picture of the prompt on row `row` of the input. A row with its own seed uses
/// that in the place of `seed` + `row`. Picture 0 of row 0 has `seed` itself, so a picture is made again
/// alone with the seed that stands in it: seed + row + copy * 2^32, modulo 2^63.
std::uint64_t picture_seed(std::uint64_t seed, std::uint64_t row, std::uint64_t copy);

/// A loaded pipeline. One thread at a time may call run() of one object; workers of a rank each get their own
/// from make_worker(), on shared weights.
class TextToImage {
 public:
  virtual ~TextToImage() = default;
  /// Pictures of equal shape. A picture depends on its own request alone. core::ResourceError when memory
  /// runs out; the caller halves the batch.
  virtual std::vector<Picture> run(std::span<const PictureRequest> requests) = 0;
  virtual PromptLength prompt_length(const std::string& prompt) const = 0;
  virtual void release_memory() = 0;
  virtual std::unique_ptr<TextToImage> make_worker() = 0;

  /// `unet` parallel: the ranks of `group` share the rows of each step's UNet batch (guidance halves first,
  /// then items). Rank 0 of the group calls run(); the others call serve(), which returns after rank 0 called
  /// dismiss(). Collective; before the first run().
  virtual void share_unet(std::shared_ptr<comm::Communicator> group) = 0;
  virtual void serve(const std::function<void()>& alive) = 0;
  virtual void dismiss() = 0;
};

/// Strict loading, every rank.
std::unique_ptr<TextToImage> load_text_to_image(const PipelineConfig& config);

/// Standard normal numbers by the counter-based generator (Philox, Box-Muller), a function of (seed, stream,
/// place) alone. Stream 0 is the initial noise, 1 + step what a step of an ancestral sampler adds.
void fill_noise(std::uint64_t seed, std::uint32_t stream, std::span<float> out);

}  // namespace muster::diffusion
