// SPDX-License-Identifier: Apache-2.0
#include "phases/train/text_to_image_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "muster/core/error.h"
#include "muster/models/diffusion_folder.h"
#include "muster/text/clip_vocabulary.h"

namespace muster::phases {
namespace {

using enum config::KeyType;
constexpr auto kYes = config::AffectsResults::kYes;
constexpr std::int64_t kMostWidth = 1 << 14;

void add_sizes(config::Schema& schema, const char* name, const char* value, const char* doc,
               double minimum = 1) {
  schema.add({.name = name,
              .type = kIntList,
              .default_value = value,
              .doc = doc,
              .affects = kYes,
              .minimum = minimum,
              .maximum = kMostWidth});
}

void add_size(config::Schema& schema, const char* name, const char* value, const char* doc,
              double minimum = 1) {
  schema.add({.name = name,
              .type = kInt,
              .default_value = value,
              .doc = doc,
              .affects = kYes,
              .minimum = minimum,
              .maximum = 1 << 20});
}

void add_number(config::Schema& schema, const char* name, const char* value, const char* doc,
                std::optional<double> maximum = std::nullopt) {
  schema.add({.name = name,
              .type = kFloat,
              .default_value = value,
              .doc = doc,
              .affects = kYes,
              .minimum = 0,
              .maximum = maximum});
}

void add_models(config::Schema& schema) {
  schema.add({.name = "train.vae",
              .doc = "folder of the autoencoder; none: that of the pipeline in model.path",
              .flags = {"--vae"},
              .value_name = "DIR"});
  add_sizes(schema, "unet.channels", "[64, 128, 192]", "of each level; each but the last halves the latents");
  add_size(schema, "unet.layers", "1", "residual blocks of a level");
  add_sizes(schema, "unet.transformers", "[0, 1, 1]",
            "transformer blocks behind each residual block of a level", 0);
  add_size(schema, "unet.head_width", "32", "channels of an attention head");
  add_size(schema, "unet.norm_groups", "16", "of a group norm; divides every number of channels");
  add_size(schema, "text.hidden", "128", "width of the text encoder");
  add_size(schema, "text.layers", "2", "its layers");
  add_size(schema, "text.heads", "4", "its attention heads");
  add_size(schema, "text.positions", "16", "tokens of a caption, both special ones included", 3);
  add_size(schema, "text.vocabulary", "1024", "tokens that are learnt from the captions",
           text::kLeastClipVocabulary);
}

void add_captions(config::Schema& schema) {
  schema
      .add({.name = "train.separator",
            .default_value = "|",
            .doc = "between the captions in a picture's text; \"\": it is one caption",
            .affects = kYes})
      .add({.name = "train.templates",
            .type = kStringList,
            .default_value = "[\"{}\"]",
            .doc = "one of them is put around a caption, say 'a picture of a {}'",
            .affects = kYes});
  add_number(schema, "train.first_caption", "0.5",
             "how often the first caption is taken, not one of the others", 1);
  add_number(schema, "train.unconditional", "0.1", "how often there is no caption, for guidance", 1);
}

void add_objective(config::Schema& schema) {
  schema
      .add({.name = "train.prediction",
            .default_value = "epsilon",
            .doc = "of the model: the noise, v, or the flow from picture to noise",
            .affects = kYes,
            .choices = {"epsilon", "v", "flow"}})
      .add({.name = "train.zero_terminal_snr",
            .type = kBool,
            .default_value = "false",
            .doc = "the last step of the noise schedule is noise alone; needs v",
            .affects = kYes});
  add_number(schema, "train.min_snr_gamma", "0",
             "bound of a step's weight by its signal to noise; 0: all alike");
}

void add_samples(config::Schema& schema) {
  schema
      .add({.name = "train.prompts",
            .type = kStringList,
            .default_value = "[]",
            .doc = "pictures of these are made between epochs, in samples/",
            .flags = {"--prompts"},
            .value_name = "TEXT..."})
      .add({.name = "train.sample_every",
            .type = kInt,
            .default_value = "1",
            .doc = "epochs between them; 0: none",
            .minimum = 0})
      .add({.name = "train.sample_steps",
            .type = kInt,
            .default_value = "20",
            .doc = "model calls of such a picture",
            .minimum = 1,
            .maximum = 1000})
      .add({.name = "train.guidance",
            .type = kFloat,
            .default_value = "3",
            .doc = "guidance of such a picture",
            .minimum = 0});
}

void check_divides(const char* key, std::int64_t divisor, const std::vector<std::int64_t>& channels) {
  for (const auto width : channels)
    if (width % divisor != 0)
      throw core::ConfigError(
          fmt::format("{} is {}, which does not divide {} of unet.channels", key, divisor, width));
}

void read_new_models(const config::Config& config, TextToImageOptions& options) {
  auto& unet = options.unet;
  unet.channels = sizes_of(config, "unet.channels");
  unet.transformers = sizes_of(config, "unet.transformers");
  if (unet.channels.empty() || unet.transformers.size() != unet.channels.size())
    throw core::ConfigError(fmt::format("unet.channels has {} levels and unet.transformers {}",
                                        unet.channels.size(), unet.transformers.size()));
  unet.layers.assign(unet.channels.size(), config.integer("unet.layers"));
  unet.norm_groups = config.integer("unet.norm_groups");
  check_divides("unet.norm_groups", unet.norm_groups, unet.channels);
  const std::int64_t width = config.integer("unet.head_width");
  check_divides("unet.head_width", width, unet.channels);
  unet.heads.clear();
  for (const auto channels : unet.channels) unet.heads.push_back(channels / width);
  unet.mid_transformers = std::max<std::int64_t>(unet.transformers.back(), 1);
  unet.linear_projection = true;
  auto& text = options.text;
  text.hidden = config.integer("text.hidden");
  text.intermediate = 4 * text.hidden;
  text.layers = config.integer("text.layers");
  text.heads = config.integer("text.heads");
  text.positions = config.integer("text.positions");
  text.vocab = config.integer("text.vocabulary");
  text.eos_token = text.vocab - 1;  // until the vocabulary is learnt
  if (text.hidden % text.heads != 0)
    throw core::ConfigError(
        fmt::format("text.heads is {}, which does not divide text.hidden, {}", text.heads, text.hidden));
  unet.cross_width = text.hidden;
}

void read_models(const config::Config& config, TextToImageOptions& options) {
  options.pipeline = config.string("model.path");
  options.vae = config.string("train.vae");
  if (options.pipeline.empty()) {
    if (options.vae.empty())
      throw core::ConfigError(
          "train.vae is required: the folder of an autoencoder, such as `muster train --task autoencoder` "
          "makes, "
          "or model.path: a pipeline to train on from");
    read_new_models(config, options);
    return;
  }
  const auto folder = models::DiffusionFolder::read(options.pipeline);
  if (folder.kind != models::PipelineKind::kStableDiffusion)
    throw core::ConfigError(
        fmt::format("{} is no StableDiffusionPipeline, which alone is trained on from", options.pipeline));
  options.unet = folder.unet;
  options.text = folder.text_encoders.front();
  if (options.vae.empty()) options.vae = (std::filesystem::path(options.pipeline) / "vae").string();
}

// The latents are what the UNet works on.
void fit_to_autoencoder(TextToImageOptions& options) {
  const auto vae = models::AutoencoderKLConfig::read(
      formats::read_json((std::filesystem::path(options.vae) / "config.json").string()));
  const auto side = static_cast<std::int64_t>(options.pictures.resolution);
  const auto halvings = static_cast<std::int64_t>(options.unet.channels.size()) - 1;
  if (side % vae.factor() != 0 || (side / vae.factor()) % (std::int64_t{1} << halvings) != 0)
    throw core::ConfigError(
        fmt::format("train.resolution is {}: the autoencoder makes latents of {} x {} of it, which {} levels "
                    "of unet.channels "
                    "cannot halve {} times",
                    side, side / vae.factor(), side / vae.factor(), halvings + 1, halvings));
  if (options.pipeline.empty()) {
    options.unet.in_channels = options.unet.out_channels = vae.latent_channels;
    options.unet.sample_size = side / vae.factor();
  } else if (options.unet.in_channels != vae.latent_channels) {
    throw core::ConfigError(fmt::format("{} makes latents of {} channels, but the UNet of {} takes {}",
                                        options.vae, vae.latent_channels, options.pipeline,
                                        options.unet.in_channels));
  }
}

}  // namespace

config::Schema text_to_image_schema() {
  config::Schema schema = picture_schema();
  add_models(schema);
  add_captions(schema);
  add_objective(schema);
  add_samples(schema);
  return schema;
}

TextToImageOptions read_text_to_image_options(const config::Config& config) {
  TextToImageOptions options;
  read_picture_options(config, options);
  read_models(config, options);
  fit_to_autoencoder(options);
  options.captions = {.separator = config.string("train.separator"),
                      .first = config.number("train.first_caption"),
                      .templates = config.strings("train.templates"),
                      .dropped = config.number("train.unconditional")};
  if (options.captions.templates.empty()) options.captions.templates = {"{}"};
  options.objective = {.prediction = prediction_from_name(config.string("train.prediction")),
                       .zero_terminal_snr = config.boolean("train.zero_terminal_snr"),
                       .min_snr_gamma = config.number("train.min_snr_gamma")};
  options.samples = {.prompts = config.strings("train.prompts"),
                     .every = static_cast<std::uint64_t>(config.integer("train.sample_every")),
                     .steps = static_cast<std::uint32_t>(config.integer("train.sample_steps")),
                     .guidance = config.number("train.guidance"),
                     .resolution = options.pictures.resolution,
                     .seed = options.seed};
  return options;
}

}  // namespace muster::phases
